"""A failing prediction reports its error, logs a stack trace, and leaves the server able to make the next one."""

import shutil

from local.serve import health
from tests.local.serving.client import Client
from tests.waiting import eventually


def check_failure(client: Client, expected: str, **inputs: object) -> None:
    before = len(client.log.read_text())
    failed = client.predict(**inputs)
    assert failed["status"] == "failed"
    assert expected in failed["error"]
    assert "output" not in failed
    # The server omits the logs of a failed prediction from its response, but its own log has them.
    eventually(lambda: "Traceback (most recent call last)" in client.log.read_text()[before:])
    eventually(lambda: f"predict_{client.model}.py" in client.log.read_text()[before:])


def test_an_unwritable_output_folder(riffusion: Client) -> None:
    riffusion.predict(denoising=0)
    folder = riffusion.server.folder / "tmp"
    shutil.rmtree(folder)
    folder.touch()
    try:
        check_failure(riffusion, f"Not a directory: '{folder}", denoising=0)
    finally:
        folder.unlink()
        folder.mkdir()
    assert riffusion.predict(denoising=0)["status"] == "succeeded"


def test_running_out_of_memory_in_the_middle_of_a_video(deforum: Client) -> None:
    check_failure(deforum, "can't allocate memory", animation_prompts="0: a | 50: more memory than there is")
    assert deforum.files() == []
    eventually(lambda: health(deforum.server.url)["status"] == "READY")


def test_an_invalid_input_is_reported_without_a_stack_trace(riffusion: Client) -> None:
    before = len(riffusion.log.read_text())
    failed = riffusion.predict(num_inference_steps=1001)
    assert failed["error"].endswith(": num_inference_steps is 1001, but must be a whole number from 1 to 1000")
    assert failed["logs"] == ""
    eventually(lambda: "Prediction failed" in riffusion.log.read_text()[before:])
    assert "Traceback" not in riffusion.log.read_text()[before:]
