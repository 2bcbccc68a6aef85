"""Where things are on the page: in the window, as wide as it, large enough for fingers, in the focus order."""

import hashlib
import re

import psycopg
import pytest
from playwright.sync_api import Browser, FloatRect, Locator, Page, expect

from tests.gateway.processes import TIMEOUT_S, System, Token
from tests.web.browsing import at_the_form, opened, unfold

expect.set_options(timeout=TIMEOUT_S * 500)

PHONE_PX = (390, 844)
RIFFUSION = "riffusion/riffusion"
DEFORUM = "deforum/deforum_stable_diffusion"
FINGER_PX = 44
EDGE_CONTRAST = 3
LUMINANCE = """
    const luminance = (color) => {
        const [r, g, b] = color.match(/[\\d.]+/g).map((part) => {
            const share = part / 255;
            return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
    };
"""


def box_of(locator: Locator) -> FloatRect:
    box = locator.bounding_box()
    assert box
    return box


def is_in_the_window(locator: Locator) -> bool:
    page, box = locator.page, box_of(locator)
    assert page.viewport_size
    return box["y"] >= 0 and box["y"] + box["height"] <= page.viewport_size["height"]


def width_of(page: Page) -> int:
    width: int = page.evaluate("document.documentElement.scrollWidth")
    return width


def revoke(system: System, token: Token) -> None:
    with psycopg.connect(system.database_url, autocommit=True) as connection:
        hashed = hashlib.sha256(token.text.encode()).digest()
        changed = connection.execute("update tokens set revoked_at = now() where hash = %s", [hashed])
        assert changed.rowcount == 1


def test_messages_are_in_the_window_next_to_the_run_button(browser: Browser, visitor: Token) -> None:
    with at_the_form(browser, visitor, height=400, lost=True) as page:  # the form is longer
        page.context.set_offline(True)
        page.get_by_role("button", name="Run").click()
        message = page.get_by_role("alert").filter(has_text="Nothing was submitted")
        expect(message).to_be_visible()
        assert is_in_the_window(message)
        page.context.set_offline(False)
    unknown = f"{visitor.url}/?prediction=unknown#token={visitor.text}"
    with opened(browser, unknown, height=400, lost=True) as page:
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


@pytest.mark.parametrize("width", [320, 2560])
def test_no_text_makes_the_page_wider_than_the_window(browser: Browser, visitor: Token, width: int) -> None:
    visitor.run(text="word" * 100)
    visitor.run(text="\u202efrom right to left")
    with at_the_form(browser, visitor, width=width, height=740, lost=True) as page:
        for card in page.locator(".card").all():
            card.click()
            expect(page.locator(".other pre")).to_be_visible()
            assert width_of(page) <= width
            assert box_of(page.locator("#result-title"))["height"] < 70  # px, two lines
        for text in (page.locator(".card .title").first, page.locator("#result-title bdi")):
            assert text.evaluate("text => getComputedStyle(text).unicodeBidi") == "isolate"
        for model in page.locator("nav button").all():
            model.click()
            expect(page.locator("#ask-title")).to_have_text(model.inner_text())  # its view is loaded
            unfold(page)
            assert width_of(page) <= width


def test_an_opened_prediction_comes_into_view_with_the_focus_and_back_returns(browser: Browser, visitor: Token) -> None:
    for number in range(12):
        visitor.run(text=f"number {number}")
    with at_the_form(browser, visitor, width=PHONE_PX[0], height=PHONE_PX[1]) as page:
        for number in (2, 9):
            page.locator(".card", has_text=f"number {number}").click()
            title = page.locator("#result-title")
            expect(title).to_have_text(f"number {number}")
            expect(title).to_be_focused()
            assert is_in_the_window(title)
        page.go_back()
        expect(page.locator("#result-title")).to_have_text("number 2")
        expect(page.locator("#input-text")).to_have_value("number 2")
        page.go_back()
        expect(page.locator("#result-title")).to_have_count(0)
        page.go_forward()
        expect(page.locator("#result-title")).to_have_text("number 2")


def test_the_focus_never_goes_below_the_run_bar(browser: Browser, visitor: Token) -> None:
    with at_the_form(browser, visitor, RIFFUSION, height=600) as page:
        unfold(page)
        page.locator("#input-prompt_a").focus()
        seen = set()
        while not page.evaluate("document.activeElement.matches('.run .primary')"):
            page.keyboard.press("Tab")
            page.wait_for_timeout(50)
            seen.add(page.evaluate("document.activeElement.getAttribute('aria-label')"))
            assert page.evaluate("""
                const { bottom, top } = document.activeElement.closest(".seed, :focus").getBoundingClientRect();
                const bar = document.querySelector(".run");
                bar.contains(document.activeElement) || (top >= 0 && bottom <= bar.getBoundingClientRect().top)
            """), page.evaluate("document.activeElement.outerHTML")
        assert "Listen to vibes" in seen


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_edges_of_fields_stand_out(browser: Browser, visitor: Token, dark: bool) -> None:
    with at_the_form(browser, visitor, dark=dark) as page:
        for field in page.locator("form :is(input[type=text], textarea), .history select").all():
            contrast = field.evaluate(f"""field => {{
                {LUMINANCE}
                const edge = luminance(getComputedStyle(field).borderTopColor);
                const panel = luminance(getComputedStyle(field.closest("section")).backgroundColor);
                return edge > panel ? edge / panel : panel / edge;
            }}""")
            assert contrast >= EDGE_CONTRAST


def test_everything_is_large_enough_for_fingers_on_a_phone(browser: Browser, visitor: Token) -> None:
    visitor.run(text="something to list")
    for model in (RIFFUSION, DEFORUM):
        with at_the_form(browser, visitor, model, width=PHONE_PX[0], height=PHONE_PX[1], lost=True) as page:
            page.locator(".card").first.click()
            page.get_by_role("button", name="Copy link").wait_for()
            page.get_by_role("navigation").get_by_role("button", name=re.sub("[/_].*", "", model)).click()
            unfold(page)
            targets = page.locator("button, select, summary, textarea, input[type=text], a.card, label:has(input)")
            small = [
                target.evaluate("target => target.outerHTML")
                for target in targets.all()
                if target.is_visible() and min(box_of(target)["width"], box_of(target)["height"]) < FINGER_PX - 0.5
            ]
            assert small == []


def test_checkboxes_have_the_colour_of_the_page(browser: Browser, visitor: Token) -> None:
    with at_the_form(browser, visitor) as page:
        checkbox = page.get_by_role("checkbox").first
        accent = checkbox.evaluate("box => getComputedStyle(box).accentColor")
        assert accent == page.get_by_role("button", name="Run").evaluate(
            "button => getComputedStyle(button).backgroundColor"
        )
