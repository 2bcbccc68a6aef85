"""The page with a model whose output is an iterator."""

from playwright.sync_api import Browser, expect

from tests.gateway.processes import System
from tests.web.browsing import opened, token_of
from tests.web.conftest import browser  # noqa: F401 (a fixture)


def test_the_page_shows_items_while_the_model_produces_them(browser: Browser, containers: System) -> None:  # noqa: F811
    token = token_of(containers)
    created = token.create("test/tokens", input={"prompt": "w", "count": 500, "interval_s": 0.1})
    with opened(browser, f"{token.url}/?prediction={created['id']}#token={token.text}") as page:
        expect(page.locator(".other pre")).to_contain_text("w9 ")
        expect(page.get_by_role("status")).to_have_text("Running")
        page.keyboard.press("Escape")
        expect(page.get_by_role("status")).to_have_text("Canceled")
        expect(page.locator(".other pre")).to_contain_text("w9 ")
