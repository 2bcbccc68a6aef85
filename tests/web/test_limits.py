"""The page's size, origin and time to first paint."""

import re
from urllib.parse import urlparse

import httpx
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


def test_the_policy_forbids_inline_scripts_and_styles(visitor: Token) -> None:
    page = httpx.get(visitor.url, headers={"Accept": "text/html"}, trust_env=False)
    policy = dict(part.strip().split(" ", 1) for part in page.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert not re.search(r"<script(?![^>]*src=)|<style| style=| on\w+=", page.text)


@pytest.mark.limits
def test_the_first_paint_is_fast(browser: Browser, visitor: Token) -> None:
    with opened(browser, f"{visitor.url}/#token={visitor.text}") as page:
        page.locator("form .fields").wait_for()
        page.reload()
        page.locator("form .fields").wait_for()
        painted_ms = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    assert painted_ms < FIRST_PAINT_MS
