"""The files in an output, from a data URL to the store."""

import asyncio
import base64
from pathlib import Path

import pytest
from obstore.exceptions import BaseError

from gateway.prediction import File, Json
from gateway.record.files import Files
from gateway.work.outputs import Stored, store


def stored(folder: Path, output: Json) -> Stored:
    return asyncio.run(store(output, Files(folder.as_uri()), "prediction"))


def url(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


@pytest.mark.parametrize(
    ("media_type", "name"),
    [
        ("audio/wav", "output.wav"),
        ("video/mp4", "output.mp4"),
        ("image/png", "output.png"),
        ("application/x-unheard-of", "output.bin"),
        ("text/plain;charset=utf-8", "output.txt"),
    ],
)
def test_a_file_is_named_by_its_type(tmp_path: Path, media_type: str, name: str) -> None:
    (file,) = stored(tmp_path, url(media_type, b"data")).files
    assert (file.name, file.media_type, file.size) == (name, media_type.split(";")[0], 4)
    assert (tmp_path / file.key).read_bytes() == b"data"


def test_files_are_found_wherever_they_are(tmp_path: Path) -> None:
    png = url("image/png", b"")
    found = stored(tmp_path, {"a b/../c": png, "list": [1, {"x": png}, [png]], "text": "data: not one", "none": None})
    assert [file.name for file in found.files] == ["a-b-..-c.png", "x.png", "list-2-0.png"]
    first, second, third = (file.reference for file in found.files)
    listed: Json = [1, {"x": second}, [third]]
    assert found.output == {"a b/../c": first, "list": listed, "text": "data: not one", "none": None}
    assert len({file.key.split("/")[1] for file in found.files}) == 3  # each has a secret of its own


@pytest.mark.parametrize("text", ["data:text/plain,hi", "data:image/png;base64,!!!!", "data:image/png;base64,\xe9", ""])
def test_what_only_looks_like_a_file_stays_text(tmp_path: Path, text: str) -> None:
    assert stored(tmp_path, text) == Stored(text, ())
    assert list(tmp_path.iterdir()) == []


def test_a_large_file_is_the_same(tmp_path: Path) -> None:
    data = bytes(range(256)) * (5 << 12) + b"end"  # its base64 takes more than one step
    (file,) = stored(tmp_path, url("audio/wav", data)).files
    assert (tmp_path / file.key).read_bytes() == data


def test_none_is_left_where_one_cannot_be_stored(tmp_path: Path) -> None:
    files = Files(tmp_path.as_uri())
    output: Json = {"ok": url("image/png", b"1"), "bad": url("image/png", b"2")}
    put = files.put

    async def run() -> None:
        with pytest.MonkeyPatch.context() as patch, pytest.raises(BaseError):
            patch.setattr(files, "put", failing)
            await store(output, files, "prediction")

    async def failing(prediction_id: str, name: str, media_type: str, data: bytes) -> File:
        if name.startswith("bad"):
            raise BaseError("the disk is full")
        return await put(prediction_id, name, media_type, data)

    asyncio.run(run())
    assert list(tmp_path.iterdir()) == []
