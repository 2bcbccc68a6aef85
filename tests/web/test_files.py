"""Files that go into a form: uploads, recordings and settings."""

import hashlib
import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.gateway.processes import FAKE, TIMEOUT_S, Token
from tests.web.browsing import at_the_form, flaws

expect.set_options(timeout=TIMEOUT_S * 500)

DROP = """
    (element, [name, content]) => {
        const held = new DataTransfer();
        held.items.add(new File([content], name));
        element.dispatchEvent(new DragEvent("drop", { dataTransfer: held, bubbles: true, cancelable: true }));
    }
"""
CONTENT = "what it contains"
LARGE_BYTES = 1_000_000


def file_field(page: Page) -> Locator:
    return page.locator(".file", has=page.locator("#input-image"))


def choose_file(page: Page, content: bytes) -> None:
    with page.expect_file_chooser() as chooser:
        file_field(page).get_by_role("button", name="Choose a file").click()
    chooser.value.set_files({"name": "a.txt", "mimeType": "text/plain", "buffer": content})


@pytest.mark.parametrize("dropped", [True, False], ids=["dropped", "chosen"])
def test_a_file_is_uploaded_and_read_by_the_model(browser: Browser, visitor: Token, dropped: bool) -> None:
    with at_the_form(browser, visitor) as page:
        if dropped:
            file_field(page).evaluate(DROP, ["a.txt", CONTENT])
        else:
            choose_file(page, CONTENT.encode())
        expect(page.locator("#input-image")).to_have_value(re.compile("/v1/files/"))
        page.keyboard.press("Control+Enter")
        expect(page.locator(".other pre")).to_contain_text(hashlib.sha256(CONTENT.encode()).hexdigest()[:8])


def slow_down(page: Page, bytes_per_s: int) -> None:
    page.context.new_cdp_session(page).send(
        "Network.emulateNetworkConditions",
        {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": bytes_per_s},
    )


def test_an_upload_shows_its_progress_and_keeps_what_is_typed_meanwhile(browser: Browser, visitor: Token) -> None:
    with at_the_form(browser, visitor) as page:
        slow_down(page, 200_000)
        choose_file(page, bytes(LARGE_BYTES))
        progress = page.get_by_role("progressbar", name="Uploading a.txt")
        page.locator("#input-text").fill("typed meanwhile")
        shares = set()
        while progress.count():
            shares.add(progress.evaluate("progress => progress.value"))
            page.wait_for_timeout(100)
        assert len([share for share in shares if 0 < share < 1]) >= 3
        expect(page.locator("#input-image")).to_have_value(re.compile("/v1/files/"))
        expect(page.locator("#input-text")).to_have_value("typed meanwhile")


def test_an_upload_can_be_canceled(browser: Browser, visitor: Token) -> None:
    with at_the_form(browser, visitor) as page:
        slow_down(page, 10_000)
        choose_file(page, bytes(LARGE_BYTES))
        page.get_by_role("progressbar", name="Uploading a.txt").wait_for()
        assert flaws(page) == ""
        with page.expect_event("requestfailed", lambda request: request.url.endswith("/v1/files")):
            page.get_by_role("button", name="Cancel the upload").click()
        expect(page.get_by_role("progressbar")).to_have_count(0)
        expect(page.locator("#input-image")).to_have_value("")
        expect(page.locator(".ask .error")).to_have_count(0)
        assert visitor.http.get("/files").json()["results"] == []


def test_settings_are_saved_and_loaded(browser: Browser, visitor: Token, tmp_path: Path) -> None:
    saved = tmp_path / "settings.json"
    with at_the_form(browser, visitor) as page:
        page.locator("#input-text").fill("what it says")
        page.locator("#input-logs").fill("one\ntwo")
        page.locator("#input-crash").check()
        with page.expect_download() as download:
            page.get_by_role("button", name="Save settings").click()
        assert download.value.suggested_filename == "fake-settings.json"
        download.value.save_as(saved)
        content = json.loads(saved.read_text(encoding="utf-8"))
        assert content["model"] == FAKE
        assert content["input"]["logs"] == ["one", "two"]

        page.get_by_role("button", name="Reset all").click()
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="Load settings").click()
        chooser.value.set_files(saved)
        expect(page.locator("#input-text")).to_have_value("what it says")
        expect(page.locator("#input-logs")).to_have_value("one\ntwo")
        expect(page.locator("#input-crash")).to_be_checked()
        expect(page.locator(".run .error")).to_have_count(0)


@pytest.mark.parametrize(
    ("content", "message", "text"),
    [
        ({"input": {"text": "loaded"}}, None, "loaded"),  # such as a prediction's JSON
        (
            {"model": FAKE, "input": {"text": "loaded", "zoom": 1, "angle": 2}},
            f"Left out, because {FAKE} has no such inputs: zoom, angle.",
            "loaded",
        ),
        (
            {"model": "someone/else", "input": {"text": "loaded"}},
            f"dropped.json has settings for someone/else, not for {FAKE}.",
            "before",
        ),
        ([1], 'dropped.json isn\'t a settings file: it must be JSON with an "input" object.', "before"),
    ],
    ids=["of any model", "unknown inputs", "another model's", "no settings"],
)
def test_a_settings_file_that_is_dropped_on_the_form_fills_it_or_is_refused(
    browser: Browser, visitor: Token, content: object, message: str | None, text: str
) -> None:
    with at_the_form(browser, visitor) as page:
        page.locator("#input-text").fill("before")
        page.locator("#ask-title").evaluate(DROP, ["dropped.json", json.dumps(content)])
        if message:
            expect(page.get_by_role("alert")).to_have_text(message)
        expect(page.locator("#input-text")).to_have_value(text)
        if not message:
            expect(page.get_by_role("alert")).to_have_count(0)
