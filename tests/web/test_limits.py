"""The page's size, origin and time to first paint."""

from urllib.parse import urlparse

import pytest
from playwright.sync_api import Browser, Response

from tests.gateway.processes import Token
from tests.web.browsing import opened

MOST_BYTES = 150_000
FIRST_PAINT_MS = 200


def test_the_first_view_is_small_and_comes_from_one_origin(browser: Browser, visitor: Token) -> None:
    answers: list[Response] = []
    with browser.new_context() as context:
        page = context.new_page()
        page.on("response", lambda answer: answers.append(answer))  # playwright marks what it is given
        page.goto(f"{visitor.url}/?model=riffusion/riffusion#token={visitor.text}", wait_until="networkidle")
        page.locator("form .fields").wait_for()
        sizes = [answer.request.sizes() for answer in answers]
        assert len(answers) > 12  # its modules at least
        assert {urlparse(answer.url).netloc for answer in answers} == {urlparse(visitor.url).netloc}
        assert sum(size["responseBodySize"] + size["responseHeadersSize"] for size in sizes) < MOST_BYTES


@pytest.mark.limits
def test_the_first_paint_is_fast(browser: Browser, visitor: Token) -> None:
    with opened(browser, f"{visitor.url}/#token={visitor.text}") as page:
        page.locator("form .fields").wait_for()
        page.reload()
        page.locator("form .fields").wait_for()
        painted_ms = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    assert painted_ms < FIRST_PAINT_MS
