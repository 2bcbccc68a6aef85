"""Where things are on the page: in the window, next to what they belong to, and in the focus order."""

import hashlib

import psycopg
from playwright.sync_api import Browser, FloatRect, Locator, Page, expect

from tests.gateway.processes import TIMEOUT_S, System, Token
from tests.web.browsing import at_the_form, opened

expect.set_options(timeout=TIMEOUT_S * 500)


def box_of(locator: Locator) -> FloatRect:
    box = locator.bounding_box()
    assert box
    return box


def is_in_the_window(locator: Locator) -> bool:
    page, box = locator.page, box_of(locator)
    assert page.viewport_size
    return box["y"] >= 0 and box["y"] + box["height"] <= page.viewport_size["height"]


def revoke(system: System, token: Token) -> None:
    with psycopg.connect(system.database_url, autocommit=True) as connection:
        hashed = hashlib.sha256(token.text.encode()).digest()
        changed = connection.execute("update tokens set revoked_at = now() where hash = %s", [hashed])
        assert changed.rowcount == 1


def test_messages_are_in_the_window_next_to_the_run_button(browser: Browser, visitor: Token) -> None:
    with at_the_form(browser, visitor, "riffusion/riffusion", lost=True) as page:
        page.context.set_offline(True)
        page.get_by_role("button", name="Run").click()
        message = page.get_by_role("alert").filter(has_text="Nothing was submitted")
        expect(message).to_be_visible()
        assert is_in_the_window(message)
        page.context.set_offline(False)
    unknown = f"{visitor.url}/?prediction=unknown#token={visitor.text}"
    with opened(browser, unknown, lost=True) as page:
        message = page.get_by_role("alert")
        expect(message).to_have_text("Prediction unknown not found.")
        assert is_in_the_window(message)


def test_a_token_that_is_revoked_in_use_leads_to_the_sign_in(browser: Browser, visitor: Token, system: System) -> None:
    with at_the_form(browser, visitor, lost=True) as page:
        page.locator("#input-seconds").fill("3")
        page.get_by_role("button", name="Run").click()
        expect(page.get_by_role("status")).to_have_text("Running")
        revoke(system, visitor)  # the run ends, and then the page asks for its output
        expect(page.get_by_role("alert")).to_have_text("This token is no longer valid. Sign in again.")
        expect(page.get_by_label("API token")).to_be_visible()


def test_signing_out_in_one_tab_signs_out_the_others(browser: Browser, visitor: Token) -> None:
    with at_the_form(browser, visitor) as page:
        other = page.context.new_page()
        other.goto(visitor.url)
        other.get_by_role("button", name="Sign out").click()
        expect(page.get_by_label("API token")).to_be_visible()
