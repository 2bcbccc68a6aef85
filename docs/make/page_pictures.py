"""Make the pictures of the page in docs: screenshots of a clip and of an animation."""

import argparse
import io
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from local import ROOT, system

PICTURES = ROOT / "docs" / "pictures"
VIEW_PX: ViewportSize = {"width": 1280, "height": 960}
TIMEOUT_MS = 3_600_000  # an animation takes a minute, or a quarter of an hour on a busy machine
CLIP = {"prompt_a": "funky synth solo", "prompt_b": "slow church bells", "alpha": "0.25"}
ANIMATION = {
    "animation_prompts": "0: a sunset over the sea | 34: snowy mountains | 67: a night sky with stars",
    "angle": "0:(0.5*sin(2*pi*t/50))",
    "zoom": "0:(1.02)",
    "color_coherence": "None",
    "seed": "1",
}
FRAME_S = 4.0  # into the animation


def main() -> None:
    """Run the system, or use the one that --link names, and write both pictures."""
    parser = argparse.ArgumentParser(
        prog="script/make page-pictures", description="Make the pictures of the page in docs."
    )
    parser.add_argument("--link", help="the link that a running script/serve printed (default: run one)")
    link = parser.parse_args().link
    with served(link) as address, chromium() as browser:
        page = browser.new_page(viewport=VIEW_PX)
        page.set_default_timeout(TIMEOUT_MS)
        page.goto(address)
        page.locator("form .fields").first.wait_for()
        run(page, CLIP)
        until(page, "playground.player?.playing && playground.player.place_s > 1.5")
        save(page, "page-riffusion.png")
        page.get_by_role("button", name="deforum").click()
        earlier = page.locator(".card:has(video)", has_text=ANIMATION["animation_prompts"])
        if earlier.count():
            earlier.first.click()
        else:
            run(page, ANIMATION)
        page.locator(".film .curve").first.wait_for()
        page.evaluate(f"document.querySelector('.film video').currentTime = {FRAME_S}")
        until(page, "document.querySelector('.film video').readyState >= 3")
        page.wait_for_timeout(1000)  # until its controls have faded
        save(page, "page-deforum.png")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run a browser within a block."""
    path = shutil.which("chromium")
    if path is None:
        sys.exit("This needs Chromium: apt-get install chromium")
    options = ["--no-sandbox", "--disable-gpu"]
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=path, args=options) as browser:
        yield browser


@contextmanager
def served(link: str | None) -> Iterator[str]:
    """Yield a link to the page: the given one, or that of a system which runs within the block."""
    if link:
        yield link
        return
    with tempfile.TemporaryDirectory() as folder, system.running(system.Options(port=0, data=Path(folder))) as running:
        yield running.page


def run(page: Page, inputs: dict[str, str]) -> None:
    """Fill in the form and press Run."""
    page.evaluate("for (const group of document.querySelectorAll('details.group')) group.open = true")
    for name, value in inputs.items():
        field = page.locator(f"#input-{name}")
        if field.evaluate("field => field.tagName") == "SELECT":
            field.select_option(value)
        else:
            field.fill(value)
    page.get_by_role("button", name="Run").click()


def until(page: Page, condition: str) -> None:
    """Return once a JavaScript expression is true in the page."""
    while not page.evaluate(condition):
        page.wait_for_timeout(50)


def save(page: Page, name: str) -> None:
    """Write a screenshot."""
    page.evaluate("document.activeElement.blur()")
    with Image.open(io.BytesIO(page.screenshot())) as picture:
        picture.convert("RGB").save(PICTURES / name, optimize=True)


if __name__ == "__main__":
    main()
