"""The page with the small models: what the user hears and sees."""

import os
import re
import subprocess
import time
import wave
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest
from playwright.sync_api import Browser, Page, Request, expect
from skimage.color import rgb2lab

from gateway.serve import postgres
from local import system
from tests.gateway.processes import CLIENTS, TIMEOUT_S, node
from tests.local.test_system import QUICK_DEFORUM
from tests.web.browsing import flaws, opened, unfold

expect.set_options(timeout=TIMEOUT_S * 500)

CLIP_S = 511 * 441 / 44_100
QUICK_STEPS = "1"
FPS = 15
PROMPTS = "0: a sunset over the sea | 50: snowy mountains"
LONG = "an oil painting of a very large ship on a stormy sea in front of a lighthouse at night"
LISTENING = "playground.volume.connect((window.ear = new AnalyserNode(playground.context)))"
LEVEL = """
    (() => {
        const wave = new Float32Array(2048);
        ear.getFloatTimeDomainData(wave);
        return Math.max(...wave.map(Math.abs));
    })()
"""
AUDIBLE = 0.01


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[system.System]:
    """Run the system as script/serve does. deforum makes small frames with one step each."""
    data = tmp_path_factory.mktemp("data")
    try:
        with system.running(system.Options(port=0, data=data, predictors={"deforum": QUICK_DEFORUM})) as running:
            yield running
    finally:
        postgres.remove(data / "postgres")  # it can be elsewhere: see gateway/serve/postgres.py


@pytest.fixture
def page(running: system.System, browser: Browser) -> Iterator[Page]:
    with opened(browser, running.page) as page:
        page.locator("form .fields").first.wait_for()
        unfold(page)
        yield page


def choose(page: Page, model: str) -> None:
    page.get_by_role("navigation").get_by_role("button", name=model).click()
    expect(page.locator("#ask-title")).to_contain_text(model)  # its view is loaded
    unfold(page)


def level(page: Page, seconds: float) -> float:
    """Return the loudest sample within a time."""
    loudest = 0.0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        loudest = max(loudest, page.evaluate(LEVEL))
        page.wait_for_timeout(20)
    return loudest


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
    page.evaluate(LISTENING)
    until(page, f"{LEVEL} > {AUDIBLE}")
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
    expect(frame).to_have_attribute("aria-valuetext", "2.8 of 5.1 seconds")
    page.evaluate("""() => {
        const original = requestAnimationFrame;
        window.drawn = 0;
        window.requestAnimationFrame = (draw) => {
            window.drawn += 1;
            return original(draw);
        };
    }""")
    page.wait_for_timeout(500)
    assert page.evaluate("drawn") == 0  # paused
    with page.expect_download() as download:
        page.get_by_role("link", name="WAV").click()
    assert download.value.suggested_filename.startswith("funky-synth-solo-")
    assert length_s(download.value.path()) == pytest.approx(CLIP_S, abs=1e-3)

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


def test_what_plays_goes_on_until_the_next_clip_is_ready(page: Page) -> None:
    page.locator("#input-num_inference_steps").fill(QUICK_STEPS)
    page.get_by_role("button", name="Run").click()
    until(page, "playground.player?.playing")
    page.evaluate(LISTENING)
    until(page, f"{LEVEL} > {AUDIBLE}")
    height_px = page.locator(".clip").evaluate("clip => clip.offsetHeight")
    page.evaluate("window.before = playground.player.buffers[0]")

    page.locator("#input-prompt_a").fill("slow church bells")
    page.locator("#input-num_inference_steps").fill("30")
    page.get_by_role("button", name="Run").click()
    expect(page.locator("#result-title")).to_have_text("slow church bells")
    while page.evaluate("playground.player.buffers[0] === before"):
        assert level(page, 0.6) > AUDIBLE
        assert page.locator(".clip").evaluate("clip => clip.offsetHeight") == height_px
    assert page.evaluate("playground.player.playing")
    for _ in range(6):  # over the change, which is on a bar
        assert level(page, 0.6) > AUDIBLE
    expect(page.get_by_text("Previous result")).to_have_count(0)

    page.locator("#input-prompt_a").fill("drums and bass")
    page.locator("#input-num_inference_steps").fill("1000")
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_text("Previous result: slow church bells")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("status")).to_have_text("Canceled")
    assert level(page, 0.6) > AUDIBLE
    assert page.locator(".clip").is_visible()


def test_the_playhead_rests_for_users_who_prefer_reduced_motion(page: Page) -> None:
    page.emulate_media(reduced_motion="reduce")
    page.locator("#input-num_inference_steps").fill(QUICK_STEPS)
    page.get_by_role("button", name="Run").click()
    until(page, "playground.player?.playing")
    page.evaluate("""
        window.moves = 0;
        new MutationObserver(() => (moves += 1)).observe(document.querySelector(".playhead"), { attributes: true });
    """)
    page.wait_for_timeout(2000)
    assert 1 <= page.evaluate("moves") <= 8  # rather than 120


def test_spectrograms_have_the_same_colours_in_light_and_dark_from_dark_to_bright(page: Page) -> None:
    page.locator("#input-num_inference_steps").fill(QUICK_STEPS)
    page.get_by_role("button", name="Run").click()
    picture = page.locator(".frame img")
    until(page, "playground.player?.playing")
    picture.evaluate("picture => picture.decode()")
    page.locator(".playhead").evaluate("head => head.remove()")
    taken = []
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        box = picture.bounding_box()
        assert box
        inside = {"x": box["x"] + 20, "y": box["y"] + 20, "width": box["width"] - 40, "height": box["height"] - 40}
        taken.append(page.screenshot(clip=inside))  # type: ignore[arg-type]
    assert taken[0] == taken[1]
    tables = [
        [float(value) for value in table.get_attribute("tableValues").split()]  # type: ignore[union-attr]
        for table in page.locator("#spectrogram-colours feComponentTransfer > *").all()
    ]
    lightness = rgb2lab(list(zip(*tables, strict=True)))[:, 0]
    steps = [before - after for before, after in pairwise(lightness)]
    assert all(step == pytest.approx(100 / len(steps), rel=0.25) for step in steps)


def test_an_example_runs_at_once(page: Page) -> None:
    page.locator(".empty").get_by_role("button", name="slow church bells").click()
    expect(page.locator("#result-title")).to_have_text("slow church bells")
    expect(page.locator("#input-prompt_a")).to_have_value("slow church bells")
    page.keyboard.press("Escape")
    expect(page.get_by_role("status")).to_have_text("Canceled")


MOST_BYTES = 600_000
MOST_REQUESTS = 25
CLIPS = 60


def test_a_long_history_is_light(running: system.System, browser: Browser, page: Page) -> None:
    page.locator("#input-num_inference_steps").fill(QUICK_STEPS)
    page.get_by_role("button", name="Run").click()
    until(page, "playground.player?.playing")
    with psycopg.connect(running.environment["GATEWAY_DATABASE_URL"], autocommit=True) as connection:
        connection.execute(
            "insert into predictions (id, status, created_at, owner, model, version, queue, base_url, input, job_id,"
            " output, files, logs, started_at, completed_at)"
            " select repeat('a', 20) || (100000 + n), status, created_at - n * interval '1 s', owner, model, version,"
            " queue, base_url, input, job_id, output, files, logs, started_at, completed_at"
            " from (select * from predictions where status = 'succeeded' order by created_at desc limit 1) one,"
            " generate_series(1, %s) n",
            [CLIPS],
        )
    with opened(browser, running.page) as fresh:
        requests: list[Request] = []
        fresh.on("requestfinished", lambda request: requests.append(request))  # playwright marks what it is given
        fresh.reload(wait_until="networkidle")
        expect(fresh.locator(".card img").nth(CLIPS - 1)).to_have_attribute("src", re.compile("^data:image/webp"))
        assert bytes_of(requests) <= MOST_BYTES
        assert len(requests) <= MOST_REQUESTS

        requests.clear()
        fresh.wait_for_timeout(10_000)
        assert requests == []

        unfold(fresh)
        fresh.locator("#input-num_inference_steps").fill("1000")
        fresh.get_by_role("button", name="Run").click()
        fresh.locator(".progress .about", has_text=" of ").wait_for()
        requests.clear()
        fresh.wait_for_timeout(6_000)
        assert len(requests) <= 6
        assert bytes_of(requests) <= 5_000
        fresh.keyboard.press("Escape")
        expect(fresh.get_by_role("status")).to_have_text("Canceled")


def bytes_of(requests: list[Request]) -> int:
    sizes = [request.sizes() for request in requests if request.url.startswith("http")]
    return sum(size["responseBodySize"] + size["responseHeadersSize"] for size in sizes)


def test_the_code_of_a_request_writes_its_files(running: system.System, page: Page, tmp_path: Path) -> None:
    page.locator("#input-num_inference_steps").fill(QUICK_STEPS)
    page.get_by_role("button", name="Run").click()
    page.locator(".clip").wait_for()
    page.locator(".code summary").click()
    for language in ("curl", "Python", "JavaScript"):
        page.get_by_role("button", name=language, exact=True).click()
        run_program(page.locator("#program").inner_text(), language, running, tmp_path)
        assert length_s(tmp_path / "audio.wav") == pytest.approx(CLIP_S, abs=1e-3)
        (tmp_path / "audio.wav").unlink()
        (tmp_path / "spectrogram.png").unlink()


def run_program(program: str, language: str, running: system.System, folder: Path) -> None:
    token = running.page.partition("#token=")[2]
    commands = {
        "curl": ["bash", "-c", program],
        "Python": [str(CLIENTS / "python1" / "bin" / "python"), "-c", program],
        "JavaScript": [str(node()), "--input-type=module", "--eval", program],
    }
    modules = folder / "node_modules"
    if not modules.exists():
        modules.symlink_to(CLIENTS / "javascript" / "node_modules")
    url = running.page.partition("/#")[0]
    subprocess.run(
        commands[language],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "REPLICATE_API_TOKEN": token, "REPLICATE_BASE_URL": url},
        check=True,
        timeout=TIMEOUT_S,
    )


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
    expect(page.locator(".endless").get_by_role("status")).to_have_text("funky synth solo")
    assert page.evaluate("playground.context.currentTime - playground.scheduled[0].at_s") >= 0  # it is heard already
    until(page, "playground.scheduled.filter((clip) => !clip.repeated).length >= 2")
    until(page, "playground.scheduled.length >= 3")
    clips = page.evaluate("playground.scheduled")
    assert all(clip["until_s"] - clip["at_s"] == pytest.approx(CLIP_S, abs=1e-4) for clip in clips)
    assert all(before["until_s"] == after["at_s"] for before, after in pairwise(clips))
    with page.expect_download() as download:
        page.get_by_role("button", name="Export the last minute").click()
    assert length_s(download.value.path()) >= 3 * CLIP_S - 0.01
    made = page.locator(".card").count()
    assert made >= 2  # its clips are in the history
    page.locator(".endless").get_by_role("button", name="Stop").click()
    expect(page.locator(".endless").get_by_role("button", name="Start")).to_be_visible()
    until(
        page,
        """
        fetch("/v1/predictions", { headers: { Authorization: `Bearer ${localStorage.getItem("gateway.token")}` } })
            .then((answer) => answer.json())
            .then(({ results }) => results.every(({ status }) => status === "succeeded" || status === "canceled"))
    """,
    )
    page.locator(".endless").get_by_label("Prompt 2").fill("a harp")
    choose(page, "deforum")
    choose(page, "riffusion")
    expect(page.locator(".endless").get_by_label("Prompt 2")).to_have_value("a harp")


def test_motion_is_checked_while_typing_then_run_and_canceled(page: Page) -> None:
    choose(page, "deforum")
    page.locator("#input-animation_prompts").fill(PROMPTS)
    expect(page.locator(".strip li")).to_have_text(["0 a sunset over the sea", "50 snowy mountains"])
    expect(page.get_by_role("img", name="zoom: 1.04 to 1.04")).to_be_visible()
    page.locator("#input-zoom").press_sequentially(", 30: (1", delay=30)  # half of what is meant
    assert page.locator("#input-zoom-error").count() == 0
    page.locator("#input-zoom").fill("0: (1 + 0.02*foo)")
    expect(page.locator("#input-zoom-error")).to_contain_text("foo")
    expect(page.locator(".curve.old").get_by_role("img", name="zoom: 1.04 to 1.04")).to_be_visible()
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("status")).to_have_text("Failed")
    expect(page.locator(".result .error")).to_contain_text("zoom")
    page.locator("#input-zoom").fill("0: (1), 200: (2)")
    expect(page.get_by_text("Frame 200 is beyond the last frame, 99.")).to_be_visible()
    page.locator("#input-max_frames").fill("1000")
    expect(page.get_by_text("beyond the last frame")).to_have_count(0)
    page.locator("#input-zoom").fill("0: (1 + 0.02*t/max_f)")
    expect(page.get_by_role("img", name="zoom: 1 to 1.02")).to_be_visible()
    expect(page.locator("#input-zoom-error")).to_have_count(0)
    page.keyboard.press("Control+Enter")
    expect(page.locator(".progress")).to_contain_text(re.compile(r"Frame \d+ of 1000 · \d+:\d\d left"))
    page.keyboard.press("Escape")
    expect(page.get_by_role("status")).to_have_text("Canceled")


def test_a_video_plays_frame_by_frame_with_its_prompts(page: Page) -> None:
    choose(page, "deforum")
    page.locator("#input-animation_prompts").fill(f"{PROMPTS} {LONG} | 80: {LONG}")
    page.keyboard.press("Control+Enter")
    film = page.locator(".film")
    film.wait_for(timeout=TIMEOUT_S * 1000)
    expect(film.locator("strong")).to_have_text("Frame 0")
    assert page.evaluate("document.documentElement.scrollWidth") <= 1200
    until(page, "document.querySelector('.film video').readyState >= 2")
    for frame in (1, 2):
        film.get_by_role("button", name="Next frame").click()
        expect(film.locator("strong")).to_have_text(f"Frame {frame}")
    film.get_by_role("button", name="Previous frame").click()
    expect(film.locator("strong")).to_have_text("Frame 1")
    expect(film.locator("q")).to_have_text("a sunset over the sea")
    page.evaluate(f"document.querySelector('.film video').currentTime = {60.5 / FPS}")
    expect(film.locator("q")).to_have_text(f"snowy mountains {LONG}")
    film.get_by_role("button", name="80").click()  # in the strip of prompts
    expect(film.locator("strong")).to_have_text("Frame 80")
    for looping in (True, False):
        film.get_by_label("Loop").set_checked(looping)
        page.evaluate(f"document.querySelector('.film video').currentTime = {98.5 / FPS}")
        for _ in range(2):
            film.get_by_role("button", name="Next frame").click()
            expect(film.locator("strong")).to_have_text("Frame 99")
    with page.expect_download() as download:
        film.get_by_role("link", name="MP4").click()
    assert download.value.suggested_filename.startswith("a-sunset-over-the-sea-")
    about = page.locator(".result .about").first.inner_text()
    seed = about.partition("Seed ")[2].split()[0]
    page.get_by_role("button", name="Use this seed").click()
    expect(page.locator("#input-seed")).to_have_value(seed)
    assert flaws(page) == ""


def test_a_walk_scrolls_with_its_sound(page: Page) -> None:
    choose(page, "walk")
    page.locator("#input-prompts").fill("0: church bells | 2: drums and bass")
    page.locator("#input-bars").fill("4")
    page.locator("#input-num_inference_steps").fill(QUICK_STEPS)
    page.keyboard.press("Control+Enter")
    walk = page.locator(".walk")
    walk.wait_for(timeout=TIMEOUT_S * 1000)
    expect(page.locator("#result-title")).to_have_text("church bells → drums and bass")
    until(page, f"document.querySelector('.walk audio').duration >= {2 * CLIP_S - 0.01}")
    walk.locator("audio").evaluate("sound => sound.pause()")
    walk.get_by_role("button", name="2 drums and bass").click()
    expect(walk.locator("strong")).to_have_text("Bar 2")
    assert walk.locator("audio").evaluate("sound => sound.currentTime") == pytest.approx(CLIP_S, abs=0.01)
    until(page, "document.querySelector('.walk .tape').scrollLeft > 400")  # 80 px per second
    assert page.evaluate("document.documentElement.scrollWidth") <= 1200
    with page.expect_download() as download:
        walk.get_by_role("link", name="WAV").click()
    assert length_s(download.value.path()) == pytest.approx(2 * CLIP_S, abs=1e-2)
    assert flaws(page) == ""


def test_a_walk_becomes_a_video_in_one_click(page: Page) -> None:
    choose(page, "walk")
    page.locator("#input-bars").fill("2")
    page.locator("#input-denoising").fill("0")
    page.keyboard.press("Control+Enter")
    page.locator(".walk").wait_for(timeout=TIMEOUT_S * 1000)
    page.get_by_role("button", name="Make a video of this").click()
    expect(page.locator("#ask-title")).to_contain_text("music-video")
    unfold(page)
    assert page.locator("#input-timeline").input_value().endswith(".json")
    expect(page.get_by_role("img", name="Waveform, 93.93 beats per minute")).to_be_visible()
    expect(page.locator(".fields .waveform .bar")).to_have_count(2)
    page.locator("#input-animation_prompts").fill("0: a forest | 4b: snowy mountains")
    expect(page.locator(".fields .strip li")).to_have_text(["0 a forest", "39 snowy mountains"])
    for name, value in {"max_frames": 4, "width": 256, "height": 256, "num_inference_steps": 1}.items():
        page.locator(f"#input-{name}").fill(str(value))
    page.keyboard.press("Control+Enter")
    film = page.locator(".film")
    film.wait_for(timeout=TIMEOUT_S * 1000)
    expect(page.locator("#result-title")).to_have_text("a forest → snowy mountains")
    expect(film.get_by_role("img", name="Waveform, 93.93 beats per minute")).to_be_visible()
    assert flaws(page) == ""


def test_a_recording_becomes_the_sound_of_a_video(page: Page) -> None:
    choose(page, "music-video")
    sound = page.locator(".file", has=page.locator("#input-audio"))
    sound.get_by_role("button", name="Record").click()
    expect(sound.get_by_role("alert")).to_contain_text("Can't record")  # the browser denies it
    page.context.grant_permissions(["microphone"])
    sound.get_by_role("button", name="Record").click()
    expect(sound.get_by_role("button", name="Stop recording, 0:03")).to_be_visible()
    assert flaws(page) == ""
    sound.get_by_role("button", name="Stop recording").click()
    expect(page.locator("#input-audio")).to_have_value(re.compile("/v1/files/"))
    recorded = sound.locator("audio")
    assert 2.5 < recorded.evaluate(DECODED_S) < 10
    expect(page.get_by_role("img", name="Waveform")).to_be_visible()  # the beeps of the browser's own microphone


DECODED_S = """
    async (audio) => {
        const content = await (await fetch(audio.src)).arrayBuffer();
        return (await new AudioContext().decodeAudioData(content)).duration;
    }
"""


def length_s(path: Path) -> float:
    with wave.open(str(path)) as file:
        return float(file.getnframes() / file.getframerate())
