"""The page with both small models: what the user hears and sees."""

import time
import wave
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from gateway.serve import postgres
from local import system
from tests.gateway.processes import TIMEOUT_S
from tests.local.test_system import QUICK_DEFORUM
from tests.web.browsing import flaws, opened

expect.set_options(timeout=TIMEOUT_S * 500)

CLIP_S = 511 * 441 / 44_100
QUICK_STEPS = "1"
FPS = 15
PROMPTS = "0: a sunset over the sea | 50: snowy mountains"


@pytest.fixture(scope="module")
def link(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the link that script/serve prints. deforum makes small frames with one step each."""
    data = tmp_path_factory.mktemp("data")
    try:
        with system.running(system.Options(port=0, data=data, predictors={"deforum": QUICK_DEFORUM})) as running:
            yield running.page
    finally:
        postgres.remove(data / "postgres")  # it can be elsewhere: see gateway/serve/postgres.py


@pytest.fixture
def page(link: str, browser: Browser) -> Iterator[Page]:
    with opened(browser, link) as page:
        page.locator("form .fields").wait_for()
        yield page


def position_s(page: Page) -> float:
    """Return the position in the clip that is heard."""
    position: float = page.evaluate("playground.player.place_s")
    return position


def until(page: Page, condition: str) -> None:
    """Wait until an expression in the page is true. The page's policy forbids Playwright's own wait."""
    give_up = time.monotonic() + TIMEOUT_S / 2
    while not page.evaluate(condition):
        assert time.monotonic() < give_up, f"still not {condition}"
        page.wait_for_timeout(50)


def test_a_clip_plays_loops_and_is_compared(page: Page) -> None:
    page.locator("#input-num_inference_steps").fill(QUICK_STEPS)
    page.get_by_role("radio", name="og beat").check(force=True)
    page.get_by_role("button", name="Run").click()
    until(page, "playground.player?.playing && playground.context.state === 'running'")  # nobody pressed Play
    page.evaluate("playground.volume.connect((window.ear = new AnalyserNode(playground.context)))")
    until(page, "(ear.getFloatTimeDomainData((window.wave ??= new Float32Array(2048))), wave.some((v) => v > 0.01))")
    assert page.evaluate("playground.player.duration_s") == pytest.approx(CLIP_S, abs=1e-4)

    page.evaluate("playground.player.seek(4.9)")
    until(page, "playground.player.place_s < 2")  # it looped
    assert page.evaluate("playground.player.playing")
    page.get_by_label("Loop").uncheck()
    page.evaluate("playground.player.seek(4.9)")
    until(page, "!playground.player.playing")  # it ended
    frame = page.locator(".frame")
    box = frame.bounding_box()
    assert box
    frame.click(position={"x": box["width"] / 2, "y": 20})
    assert position_s(page) == pytest.approx(CLIP_S / 2, abs=0.1)
    page.keyboard.press("ArrowRight")
    assert position_s(page) == pytest.approx(CLIP_S / 2 + 0.25, abs=0.1)

    page.get_by_role("button", name="Pin for A/B").click()
    page.locator("#input-prompt_a").fill("slow church bells")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".take")).to_have_count(2)
    until(page, "playground.player.buffers.length === 2")
    page.evaluate("playground.player.seek(3)")
    page.get_by_role("button", name="B funky synth solo").click()
    until(page, "playground.player.heard === 1 && playground.player.place_s >= 3")
    page.wait_for_timeout(300)  # colours change in 0.12 s
    assert flaws(page) == ""
    with page.expect_download() as download:
        page.get_by_role("button", name="Export joined WAV").click()
    assert length_s(download.value.path()) == pytest.approx(2 * CLIP_S, abs=1e-3)


def test_seed_images_can_be_heard(page: Page) -> None:
    listen = page.get_by_role("button", name="Listen to marim")
    listen.click()
    expect(listen).to_have_attribute("aria-pressed", "true")
    listen.click()
    expect(listen).to_have_attribute("aria-pressed", "false")


def test_endless_joins_clips_without_a_gap(page: Page) -> None:
    page.locator("#input-num_inference_steps").fill(QUICK_STEPS)
    page.get_by_role("button", name="Endless").click()
    page.locator(".endless").get_by_role("button", name="Start").click()
    until(page, "playground.scheduled.filter((clip) => !clip.repeated).length >= 2")
    until(page, "playground.scheduled.length >= 3")
    clips = page.evaluate("playground.scheduled")
    assert all(clip["until_s"] - clip["at_s"] == pytest.approx(CLIP_S, abs=1e-4) for clip in clips)
    assert all(before["until_s"] == after["at_s"] for before, after in pairwise(clips))
    with page.expect_download() as download:
        page.get_by_role("button", name="Export the last minute").click()
    assert length_s(download.value.path()) >= 3 * CLIP_S - 0.01
    page.locator(".endless").get_by_role("button", name="Stop").click()
    expect(page.locator(".endless").get_by_role("button", name="Start")).to_be_visible()


def test_motion_is_checked_while_typing_then_run_and_canceled(page: Page) -> None:
    page.get_by_role("button", name="deforum").click()
    page.locator("#input-animation_prompts").fill(PROMPTS)
    expect(page.locator(".strip li")).to_have_text(["0 a sunset over the sea", "50 snowy mountains"])
    page.locator("#input-zoom").fill("0: (1 + 0.02*foo)")
    expect(page.locator("#input-zoom-error")).to_contain_text("foo")
    expect(page.get_by_role("img", name="zoom:")).to_have_count(0)
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("status")).to_have_text("Failed")
    expect(page.locator(".result .error")).to_contain_text("zoom")
    page.locator("#input-max_frames").fill("1000")
    page.locator("#input-zoom").fill("0: (1 + 0.02*t/max_f)")
    expect(page.get_by_role("img", name="zoom: 1 to 1.02")).to_be_visible()
    expect(page.locator("#input-zoom-error")).to_have_count(0)
    page.keyboard.press("Control+Enter")
    expect(page.locator(".progress")).to_contain_text(" of ")
    page.keyboard.press("Escape")
    expect(page.get_by_role("status")).to_have_text("Canceled")


def test_a_video_plays_frame_by_frame_with_its_prompts(page: Page) -> None:
    page.get_by_role("button", name="deforum").click()
    page.locator("#input-animation_prompts").fill(PROMPTS)
    page.keyboard.press("Control+Enter")
    film = page.locator(".film")
    expect(film.locator("strong")).to_have_text("Frame 0")
    until(page, "document.querySelector('.film video').readyState >= 2")
    for frame in (1, 2):
        film.get_by_role("button", name="Next frame").click()
        expect(film.locator("strong")).to_have_text(f"Frame {frame}")
    film.get_by_role("button", name="Previous frame").click()
    expect(film.locator("strong")).to_have_text("Frame 1")
    expect(film.locator("q")).to_have_text("a sunset over the sea")
    page.evaluate(f"document.querySelector('.film video').currentTime = {60.5 / FPS}")
    expect(film.locator("q")).to_have_text("snowy mountains")
    assert flaws(page) == ""


def length_s(path: Path) -> float:
    with wave.open(str(path)) as file:
        return float(file.getnframes() / file.getframerate())
