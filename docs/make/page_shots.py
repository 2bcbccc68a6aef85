"""Take screenshots of the page in its states, at three widths, light and dark: to be looked at after a change."""

import argparse
import time
from collections.abc import Mapping
from typing import Literal

import httpx
from playwright.sync_api import Browser, FloatRect, Page, ViewportSize

from docs.make import page_pictures
from docs.make.page_pictures import chromium, served, until
from local import ROOT

FOLDER = ROOT / "out" / "page-shots"  # git ignores it
HEIGHTS_PX = {390: 844, 1280: 900, 2560: 1300}  # of the window, by its width
PHONE_PX = 390
Theme = Literal["light", "dark"]
THEMES: tuple[Theme, ...] = ("light", "dark")
RIFFUSION = "riffusion/riffusion"
DEFORUM = "deforum/deforum_stable_diffusion"
# Those of page-pictures, so that a system has to make them once. The API takes numbers where the form takes text.
CLIP: Mapping[str, object] = {**page_pictures.CLIP, "alpha": 0.25}
FILM: Mapping[str, object] = {**page_pictures.ANIMATION, "seed": 1}
LONG = {"prompt_a": "drums and bass", "num_inference_steps": 1000}
BROKEN = {"animation_prompts": "0: a forest", "zoom": "0: (1 + 0.02*foo)"}
POLL_S = 0.5


class Predictions:
    """The predictions that the page shows, made through the API."""

    def __init__(self, link: str) -> None:
        url, _, token = link.partition("/#token=")
        headers = {"Authorization": f"Bearer {token}"}
        self._http = httpx.Client(base_url=f"{url}/v1", headers=headers, timeout=60)

    def create(self, model: str, inputs: Mapping[str, object]) -> str:
        """Create one and return its ID."""
        version = self._http.get(f"/models/{model}").raise_for_status().json()["latest_version"]["id"]
        answer = self._http.post("/predictions", json={"version": version, "input": inputs})
        return str(answer.raise_for_status().json()["id"])

    def find_or_create(self, model: str, inputs: Mapping[str, object]) -> str:
        """Return the ID of an earlier one with these inputs, because a film takes minutes, or of a new one."""
        for earlier in self._http.get("/predictions").raise_for_status().json()["results"]:
            if earlier["model"] == model and earlier["input"] == inputs and earlier["status"] != "canceled":
                return str(earlier["id"])
        return self.create(model, inputs)

    def wait(self, prediction_id: str, *statuses: str) -> None:
        """Return once a prediction has one of the statuses."""
        while self._http.get(f"/predictions/{prediction_id}").raise_for_status().json()["status"] not in statuses:
            time.sleep(POLL_S)

    def cancel(self, prediction_id: str) -> None:
        """Cancel one."""
        self._http.post(f"/predictions/{prediction_id}/cancel").raise_for_status()


def main() -> None:
    """Run the system, or use the one that --link names, and write the screenshots."""
    parser = argparse.ArgumentParser(prog="script/make page-shots", description=__doc__)
    parser.add_argument("--link", help="the link that a running script/serve printed (default: run one)")
    link = parser.parse_args().link
    FOLDER.mkdir(parents=True, exist_ok=True)
    with served(link) as address, chromium() as browser:
        predictions = Predictions(address)
        wanted: dict[str, tuple[str, Mapping[str, object]]] = {
            "done": (RIFFUSION, CLIP),
            "failed": (DEFORUM, BROKEN),
            "film": (DEFORUM, FILM),
        }
        made = {state: predictions.find_or_create(*what) for state, what in wanted.items()}
        for prediction_id in made.values():
            predictions.wait(prediction_id, "succeeded", "failed")
        made["running"] = predictions.create(RIFFUSION, LONG)
        predictions.wait(made["running"], "processing")
        for width in HEIGHTS_PX:
            for theme in THEMES:
                take(browser, address, made, width, theme)
        predictions.cancel(made["running"])
    print(f"Look at {FOLDER.relative_to(ROOT)}")


def take(browser: Browser, address: str, made: dict[str, str], width: int, theme: Theme) -> None:
    """Write the screenshots of one width and theme."""
    view: ViewportSize = {"width": width, "height": HEIGHTS_PX[width]}
    with browser.new_context(viewport=view, color_scheme=theme) as context:
        page = context.new_page()
        url, _, token = address.partition("#")
        page.goto(f"{url}#{token}")
        page.locator("form .fields").first.wait_for()
        states = {"empty": f"?model={RIFFUSION}", "empty-film": f"?model={DEFORUM}"}
        states |= {state: f"?prediction={prediction_id}" for state, prediction_id in made.items()}
        for state, query in states.items():
            page.goto(f"{url}{query}")
            page.locator(".result").wait_for()
            settle(page)
            save(page, f"{state}-{width}-{theme}.png")
        page.goto(f"{url}?model={RIFFUSION}")
        page.get_by_role("button", name="Endless").click()
        page.locator(".endless").wait_for()
        settle(page)
        save(page, f"endless-{width}-{theme}.png")


def settle(page: Page) -> None:
    """Wait until the pictures of a state have loaded."""
    page.wait_for_load_state("load")
    until(page, "[...document.images].every((image) => image.complete || image.loading === 'lazy')")
    until(page, "[...document.querySelectorAll('.result video')].every((video) => video.readyState >= 2)")
    page.wait_for_timeout(500)


def save(page: Page, name: str) -> None:
    """Write a screenshot: of the window, or on a phone of the page's first part."""
    width, height = page.evaluate("[innerWidth, Math.min(document.documentElement.scrollHeight, 3 * innerHeight)]")
    clip: FloatRect = {"x": 0, "y": 0, "width": width, "height": height}
    is_phone = width == PHONE_PX
    page.screenshot(path=FOLDER / name, full_page=is_phone, clip=clip if is_phone else None)


if __name__ == "__main__":
    main()
