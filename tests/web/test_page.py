"""The page with a real gateway, and a fake model that does what its inputs say."""

import json
import os
import shlex
import subprocess
from urllib.parse import urlparse

import psycopg
import pytest
from playwright.sync_api import Browser, Response, expect

from tests.gateway.processes import CLIENTS, FAKE, TIMEOUT_S, System, Token, node
from tests.web.browsing import EVIL, at_the_form, flaws, opened, unfold

expect.set_options(timeout=TIMEOUT_S * 500)


def test_a_wrong_token_is_rejected_and_a_right_one_remembered(browser: Browser, visitor: Token) -> None:
    with opened(browser, f"{visitor.url}/#token=r8_wrong", lost=True) as page:
        expect(page.get_by_role("alert")).to_have_text("Invalid token.")
        assert flaws(page) == ""
        page.get_by_label("API token").fill(visitor.text)
        page.keyboard.press("Enter")
        page.wait_for_selector("form .fields")
        assert visitor.text not in page.url
        page.reload()
        page.wait_for_selector("form .fields")


def test_an_invalid_input_is_reported_at_its_field_corrected_and_run_by_keyboard(
    browser: Browser, visitor: Token
) -> None:
    with at_the_form(browser, visitor, lost=True) as page:
        field = page.locator("#input-seconds")
        page.locator("#input-text").fill("what it says")
        field.fill("601")
        page.keyboard.press("Control+Enter")
        expect(page.locator("#input-seconds-error")).to_have_text("Must be less than or equal to 600, but is 601")
        expect(field).to_be_focused()
        expect(field).to_have_attribute("aria-invalid", "true")
        field.fill("x")
        page.keyboard.press("Control+Enter")
        expect(page.locator("#input-seconds-error")).to_have_text("Enter a number.")
        field.fill("0")
        page.keyboard.press("Control+Enter")
        expect(page.locator(".other pre")).to_have_text("what it says")


def test_escape_cancels_and_the_position_in_the_queue_is_shown(browser: Browser, visitor: Token) -> None:
    first = visitor.create(input={"seconds": 300})
    visitor.until(first["id"], "processing")
    with at_the_form(browser, visitor) as page:
        page.get_by_role("button", name="Run").click()
        expect(page.get_by_role("status")).to_have_text("Next in the queue")
        page.keyboard.press("Escape")
        expect(page.get_by_role("status")).to_have_text("Canceled")
        page.locator(f".card[href='?prediction={first['id']}']").click()
        expect(page.get_by_role("status")).to_have_text("Running")
        page.keyboard.press("Escape")
        expect(page.get_by_role("status")).to_have_text("Canceled")


def test_a_run_is_followed_by_one_stream_and_no_polling(browser: Browser, visitor: Token) -> None:
    logs = ["50%|#####     | 10/20 [00:01<00:01]"] + ["more"] * 300  # spread evenly over the run
    with at_the_form(browser, visitor) as page:
        page.locator("#input-seconds").fill("300")
        page.locator("#input-logs").fill("\n".join(logs))
        page.keyboard.press("Control+Enter")
        expect(page.locator(".progress")).to_contain_text("10 of 20")
        assert page.locator("progress").get_attribute("value") == "50"
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        page.wait_for_timeout(3000)
        assert requests == []
        page.keyboard.press("Escape")
        expect(page.get_by_role("status")).to_have_text("Canceled")


@pytest.mark.parametrize("hindrance", ["no stream", "hidden"])
def test_a_run_is_followed_without_its_stream(browser: Browser, visitor: Token, hindrance: str) -> None:
    requests: list[str] = []
    with at_the_form(browser, visitor, lost=True) as page:
        page.on("request", lambda request: requests.append(request.url))
        if hindrance == "no stream":
            page.route("**/v1/stream/**", lambda route: route.abort())
        else:
            page.evaluate("Object.defineProperty(document, 'hidden', {get: () => true})")
        page.locator("#input-text").fill("what it says")
        page.locator("#input-seconds").fill("1")
        page.keyboard.press("Control+Enter")
        expect(page.locator(".other pre")).to_have_text("what it says")
    assert any("/v1/stream/" in url for url in requests) == (hindrance == "no stream")


def test_runs_from_elsewhere_come_with_the_focus_and_end_by_themselves(browser: Browser, visitor: Token) -> None:
    with at_the_form(browser, visitor) as page:
        expect(page.locator(".history .about")).to_have_text("No predictions yet.")
        created = visitor.create(input={"seconds": 300, "text": "from elsewhere"})
        page.evaluate("dispatchEvent(new Event('focus'))")
        card = page.locator(".card", has_text="from elsewhere")
        expect(card).to_have_count(1)
        visitor.http.post(f"/predictions/{created['id']}/cancel")
        expect(card).to_contain_text("Canceled")


def test_runs_from_another_tab_appear_by_themselves(browser: Browser, visitor: Token) -> None:
    with at_the_form(browser, visitor) as page:
        other = page.context.new_page()
        other.goto(f"{visitor.url}/?model={FAKE}")
        other.locator("#input-text").fill("from the other tab")
        other.get_by_role("button", name="Run").click()
        expect(page.locator(".card", has_text="from the other tab")).to_have_count(1)


def test_the_json_of_a_prediction_is_shown(browser: Browser, visitor: Token) -> None:
    made = visitor.run(text="what it says")
    with at_the_form(browser, visitor) as page:
        page.locator(".card").click()
        page.get_by_text("JSON", exact=True).click()
        shown = json.loads(page.locator(".result details pre").inner_text())
        assert (shown["id"], shown["input"], shown["output"]) == (made["id"], made["input"], made["output"])


def test_inputs_and_outputs_are_shown_as_text_never_as_markup(browser: Browser, visitor: Token) -> None:
    failed = visitor.create(input={"fail": EVIL, "logs": [EVIL], "text": EVIL})
    visitor.ended(failed["id"])
    with at_the_form(browser, visitor, lost=True) as page:
        page.locator("#input-text").fill(EVIL)
        page.keyboard.press("Control+Enter")
        expect(page.locator(".other pre")).to_have_text(EVIL)
        page.locator(f".card[href='?prediction={failed['id']}']").click()
        expect(page.locator(".result .error")).to_contain_text(EVIL)
        page.get_by_text("Logs", exact=True).click()
        expect(page.locator(".result details pre")).to_contain_text(EVIL)
        page.get_by_role("button", name="deforum").click()
        page.locator("#input-animation_prompts").wait_for()
        unfold(page)
        for name in ("seed", "animation_prompts", "zoom"):
            page.locator(f"#input-{name}").fill(EVIL)
        page.keyboard.press("Control+Enter")
        expect(page.locator("#input-seed-error")).to_be_visible()
        page.locator(".code summary").click()
        expect(page.locator(".code pre")).to_contain_text("onerror")
        page.get_by_role("button", name="riffusion").click()
        page.locator("#input-prompt_a").fill(EVIL)
        page.keyboard.press("Control+Enter")
        expect(page.locator(".card .title").first).to_have_text(EVIL)
        page.keyboard.press("Escape")
        expect(page.get_by_role("status")).to_have_text("Canceled")


def test_an_open_page_survives_a_restart_of_the_gateway(browser: Browser, visitor: Token, system: System) -> None:
    """The only test here that kills a shared process. It waits until the process is back."""
    with at_the_form(browser, visitor, lost=True) as page:
        page.locator("#input-seconds").fill("300")
        page.keyboard.press("Control+Enter")
        expect(page.get_by_role("status")).to_have_text("Running")
        system.kill("gateway")
        expect(page.get_by_role("alert")).to_contain_text("Connection lost")
        system.until(system.answers)
        expect(page.get_by_role("alert")).to_have_count(0)
        page.keyboard.press("Escape")
        expect(page.get_by_role("status")).to_have_text("Canceled")


def test_an_old_prediction_is_found_and_run_again(browser: Browser, visitor: Token, system: System) -> None:
    old = visitor.create(input={"text": "of yesterday", "files": 0, "fail": "no luck"})
    visitor.ended(old["id"])
    with psycopg.connect(system.database_url, autocommit=True) as connection:
        connection.execute(
            "update predictions set created_at = created_at - interval '1 day', started_at = started_at - interval"
            " '1 day', completed_at = completed_at - interval '1 day' where id = %s",
            [old["id"]],
        )
        connection.execute(  # more than a page of newer ones
            "insert into predictions (id, status, created_at, owner, model, version, queue, base_url, input, job_id)"
            " select repeat('a', 20) || (100000 + n), 'succeeded', created_at + n * interval '1 s', owner, model,"
            " version, queue, base_url, input, job_id from predictions, generate_series(1, 120) n where id = %s",
            [old["id"]],
        )
    with at_the_form(browser, visitor) as page:
        expect(page.locator(".card")).to_have_count(100)
        page.get_by_role("button", name="Load more").click()
        expect(page.locator(".card")).to_have_count(121)
        page.reload()
        page.locator(".history select").nth(1).select_option("failed")  # loads older pages by itself
        page.locator(".card", has_text="of yesterday").click()
        expect(page.locator("#input-text")).to_have_value("of yesterday")
        expect(page.locator("#input-fail")).to_have_value("no luck")
        assert f"prediction={old['id']}" in page.url
        page.locator("#input-fail").fill("")
        page.keyboard.press("Control+Enter")
        expect(page.locator(".other pre")).to_have_text("of yesterday")


def test_output_files_come_from_the_origin_of_the_page(browser: Browser, visitor: Token) -> None:
    ended = visitor.ended(visitor.create(input={"files": 1})["id"])
    assert ended["output"].startswith("http://127.0.0.1")
    other_name = visitor.url.replace("127.0.0.1", "localhost")
    with opened(browser, f"{other_name}/?prediction={ended['id']}#token={visitor.text}") as page:
        address = page.locator(".other a").get_attribute("href")
        assert address
        assert address.startswith("/outputs/")
        assert page.evaluate("path => fetch(path).then((answer) => answer.ok)", address)


@pytest.mark.parametrize("language", ["curl", "Python", "JavaScript"])
def test_the_code_of_a_request_runs_unchanged(browser: Browser, visitor: Token, language: str) -> None:
    text = 'it\'s "true", said null: $HOME \\ é'
    with at_the_form(browser, visitor) as page:
        page.locator("#input-text").fill(text)
        page.locator(".code summary").click()
        page.get_by_role("button", name=language, exact=True).click()
        program = page.locator("#program").inner_text()
    commands = {
        "curl": ["bash", "-c", program],
        "Python": [str(CLIENTS / "python1" / "bin" / "python"), "-c", program],
        "JavaScript": [str(node()), "--input-type=module", "--eval", program],
    }
    environment = {"PATH": os.environ["PATH"], "REPLICATE_API_TOKEN": visitor.text, "REPLICATE_BASE_URL": visitor.url}
    ended = subprocess.run(
        commands[language],
        cwd=CLIENTS / "javascript",
        env={**environment, "PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert ended.returncode == 0, shlex.join(commands[language]) + ended.stderr
    output = json.loads(ended.stdout)["output"] if language == "curl" else ended.stdout.removesuffix("\n")
    assert output == text


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_no_violations(browser: Browser, visitor: Token, dark: bool) -> None:
    visitor.ended(visitor.create(input={"text": "something to list"})["id"])
    with at_the_form(browser, visitor, "riffusion/riffusion", dark=dark, lost=True) as page:
        page.locator(".card").first.wait_for()
        page.locator(".code summary").click()
        page.get_by_role("button", name="Endless").click()
        page.wait_for_timeout(300)  # colours change in 0.12 s
        assert flaws(page) == ""
        page.get_by_role("button", name="deforum").click()  # it has no preview here: the console logs a 404
        page.wait_for_timeout(300)
        assert flaws(page) == ""


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
