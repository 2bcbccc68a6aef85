"""The files of an output, from data URLs to the store."""

import base64
from pathlib import Path

import pytest
from obstore.exceptions import BaseError

from gateway.prediction import File, Json
from gateway.record.files import Files
from gateway.work.outputs import Stored, store

pytestmark = pytest.mark.anyio


async def stored(folder: Path, output: Json) -> Stored:
    return await store(output, Files(folder.as_uri()), "prediction")


def data_url(media_type: str, data: bytes) -> str:
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
async def test_a_files_suffix_follows_its_media_type(tmp_path: Path, media_type: str, name: str) -> None:
    (file,) = (await stored(tmp_path, data_url(media_type, b"data"))).files
    assert (file.name, file.media_type, file.size) == (name, media_type.split(";")[0], 4)
    assert (tmp_path / file.key).read_bytes() == b"data"


async def test_files_are_found_at_any_depth(tmp_path: Path) -> None:
    png = data_url("image/png", b"")
    found = await stored(
        tmp_path, {"a b/../c": png, "list": [1, {"x": png}, [png]], "text": "data: not one", "none": None}
    )
    assert [file.name for file in found.files] == ["a-b-..-c.png", "x.png", "list-2-0.png"]
    first, second, third = (file.reference for file in found.files)
    listed: Json = [1, {"x": second}, [third]]
    assert found.output == {"a b/../c": first, "list": listed, "text": "data: not one", "none": None}
    assert len({file.key.split("/")[1] for file in found.files}) == 3  # a random part for each


@pytest.mark.parametrize("text", ["data:text/plain,hi", "data:image/png;base64,!!!!", "data:image/png;base64,\xe9", ""])
async def test_text_that_resembles_a_data_url_stays_text(tmp_path: Path, text: str) -> None:
    assert await stored(tmp_path, text) == Stored(text, ())
    assert list(tmp_path.iterdir()) == []


async def test_a_large_file_is_stored_unchanged(tmp_path: Path) -> None:
    data = bytes(range(256)) * (5 << 12) + b"end"  # more than one chunk of base64
    (file,) = (await stored(tmp_path, data_url("audio/wav", data))).files
    assert (tmp_path / file.key).read_bytes() == data


async def test_no_file_is_left_if_one_can_not_be_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = Files(tmp_path.as_uri())
    put = files.put

    async def fail_for_some(prediction_id: str, name: str, media_type: str, data: bytes) -> File:
        if name.startswith("bad"):
            raise BaseError("the disk is full")
        return await put(prediction_id, name, media_type, data)

    monkeypatch.setattr(files, "put", fail_for_some)
    with pytest.raises(BaseError):
        await store({"ok": data_url("image/png", b"1"), "bad": data_url("image/png", b"2")}, files, "prediction")
    assert list(tmp_path.iterdir()) == []
