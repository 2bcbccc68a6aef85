"""A real browser with the page: Debian's Chromium, driven by Playwright."""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Browser, ConsoleMessage, Page, ViewportSize, expect, sync_playwright

from tests.gateway.processes import FAKE, TIMEOUT_S, System, Token

OPTIONS = [
    "--no-sandbox",  # CI runs as root, in a container
    "--disable-gpu",
    "--disable-background-networking",
    "--use-fake-device-for-media-stream",  # a microphone that beeps once a second
]
EVIL = "<img src=x onerror=\"document.title='markup'\">"


@contextmanager
def started() -> Iterator[Browser]:
    """Run a browser. One is shared by a module at most, because Playwright runs an event loop in this thread."""
    path = shutil.which("chromium")
    assert path, "the page's tests need Chromium: apt-get install chromium"
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=path, args=OPTIONS) as browser:
        yield browser


def token_of(system: System) -> Token:
    """Create a token from another thread, because the browser's event loop runs in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(system.token).result()


@contextmanager
def opened(
    browser: Browser, url: str, *, width: int = 1200, height: int = 900, dark: bool = False, lost: bool = False
) -> Iterator[Page]:
    """Open a URL in a new browser context; afterwards, verify that no markup ran and no error was logged.

    Args:
        lost: requests may fail, for example because the test stops the server. The browser's console logs each one.
    """
    errors: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type == "error" and not (lost and message.text.startswith("Failed to load resource")):
            errors.append(message.text)

    view: ViewportSize = {"width": width, "height": height}
    with browser.new_context(viewport=view, color_scheme="dark" if dark else "light") as context:
        context.set_default_timeout(TIMEOUT_S * 500)
        page = context.new_page()
        page.on("console", note)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(url)
        yield page
        assert page.title().endswith("Playground")
        assert page.locator("img[src=x]").count() == 0
    assert not errors


def link(token: Token, model: str = FAKE) -> str:
    return f"{token.url}/?model={model}#token={token.text}"


@contextmanager
def at_the_form(browser: Browser, token: Token, model: str = FAKE, **how: int | bool) -> Iterator[Page]:
    with opened(browser, link(token, model), **how) as page:  # type: ignore[arg-type]
        page.wait_for_selector("form .fields")
        yield page


def unfold(page: Page) -> None:
    """Open the groups of a form that are folded away."""
    page.evaluate("for (const group of document.querySelectorAll('details.group')) group.open = true")
    expect(page.locator("details.group:not(:has(.fields))")).to_have_count(0)


def flaws(page: Page) -> str:
    found = Axe().run(page)
    return str(found.generate_report()) if found.violations_count else ""
