"""The preview of motion, prompts and music, as the page requests it at every key press."""

import base64
import io
import json
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from local.preview import MAX_BODY_BYTES, PEAKS_PER_FRAME, Handler, preview, preview_music_video
from tests.gateway.receiver import serving
from tests.lib.audio.test_beats import drums

INPUT = {"max_frames": 120, "animation_prompts": "0: a | 50: b", "zoom": "0: (1 + 0.123456789*t)", "fps": 20}


def test_a_preview_has_the_values_of_every_motion_and_the_prompts() -> None:
    shown = preview(INPUT)
    assert shown["frames"] == 120
    assert shown["prompts"] == [{"frame": 0, "text": "a"}, {"frame": 50, "text": "b"}]
    assert shown["errors"] == {}
    assert {name: len(values) for name, values in shown["curves"].items()} == dict.fromkeys(
        ("angle", "zoom", "translation_x", "translation_y"), 120
    )
    assert shown["curves"]["zoom"][:3] == [1, 1.12346, 1.24691]


def test_an_invalid_input_has_an_error_and_hides_no_other() -> None:
    shown = preview(INPUT | {"max_frames": 7, "zoom": "0: (foo), 5: (0)", "animation_prompts": "0: a | 0: b"})
    assert shown["curves"].keys() == {"angle", "translation_x", "translation_y"}
    assert shown["prompts"] == []
    assert shown["errors"].keys() == {"max_frames", "zoom", "animation_prompts"}
    assert [line.split(":")[0] for line in shown["errors"]["zoom"].split("\n")] == [
        "zoom, keyframe 0",
        "zoom, keyframe 5",
    ]


def data_url(sound: Any) -> str:
    file = io.BytesIO()
    soundfile.write(file, sound, 44_100, format="FLAC")
    return "data:audio/flac;base64," + base64.b64encode(file.getvalue()).decode()


def test_a_preview_of_a_music_video_shows_the_music(tmp_path: Path) -> None:
    audio = data_url(np.concatenate([drums(120, 0.25, 4.0)[0], np.zeros(22_050)]))
    values = {"audio": audio, "bpm": 120, "zoom": "0: (1 + onset)", "animation_prompts": "0: a | 4b: b"}
    shown = preview_music_video(values, tmp_path)
    assert (shown["frames"], shown["errors"]) == (68, {})  # 4.5 s at 15 frames per second
    assert shown["prompts"] == [{"frame": 0, "text": "a"}, {"frame": 30, "text": "b"}]
    assert shown["curves"].keys() >= {"zoom", "strength", "noise", "guidance_scale"}
    music = shown["music"]
    assert music["beats"] == [-(-15 * n // 2) for n in range(9)]
    assert music["bars"] == [0, 30, 60]
    assert [round(value - 1, 3) for value in shown["curves"]["zoom"]] == pytest.approx(
        music["levels"]["onset"], abs=0.002
    )
    assert len(music["peaks"]) == 68 * PEAKS_PER_FRAME
    assert max(music["peaks"][: 60 * PEAKS_PER_FRAME]) > 0.5
    assert not any(music["peaks"][61 * PEAKS_PER_FRAME :])


def test_a_preview_opens_no_files_of_the_server_and_keeps_only_the_last_of_a_client(tmp_path: Path) -> None:
    for audio in ("/etc/passwd", "file:///etc/passwd", "http://127.0.0.1/a.wav", "data:audio/wav;base64,?", 7):
        shown = preview_music_video({"audio": audio}, tmp_path)
        assert shown["errors"] == {
            "audio": "The preview needs an uploaded file. A URL of audio is fetched when it runs."
        }
    for seconds in (0.5, 1.0, 0.5):
        preview_music_video({"audio": data_url(drums(120, 0.1, seconds)[0])}, tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    with serving(type("FolderHandler", (Handler,), {"folder": tmp_path})) as port:
        yield port


def posted(port: int, body: bytes, path: str = "/", **headers: str) -> tuple[int, dict[str, Any]]:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", path, body, headers)
    response = connection.getresponse()
    answer = response.status, json.load(response)
    connection.close()
    return answer


def test_the_server_responds_with_the_preview(port: int) -> None:
    body = json.dumps({"input": INPUT}).encode()
    assert posted(port, body) == posted(port, body, "/deforum") == (200, preview(INPUT))
    status, shown = posted(port, body, "/music-video")
    assert status == 200
    assert shown["curves"]["zoom"] == preview(INPUT)["curves"]["zoom"]
    assert posted(port, body, "/riffusion")[0] == 404


@pytest.mark.parametrize("body", [b"", b"no JSON", b"[]", b'{"input": []}', b'{"input": "zoom"}', b'{"zoom": "0:(1)"}'])
def test_a_body_without_an_input_is_an_error(port: int, body: bytes) -> None:
    assert posted(port, body) == (422, {"detail": 'the body must be JSON of the form {"input": {...}}'})


def test_a_body_that_is_too_long_is_not_read(port: int) -> None:
    status, answer = posted(port, b"", **{"Content-Length": str(MAX_BODY_BYTES + 1)})
    assert (status, answer) == (413, {"detail": f"the body must have at most {MAX_BODY_BYTES} bytes"})
