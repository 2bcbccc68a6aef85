from pathlib import Path

import psycopg
import pytest

from gateway.prediction import Outcome, Status
from gateway.record import Record
from gateway.record.tokens import TokenError
from tests.gateway.recording import fetched, new, owner, with_record


def test_retention_removes_data_and_files_but_no_rows(database_url: str, tmp_path: Path) -> None:
    async def test(it: Record) -> None:
        row = await it.predictions.create(new(await owner(it)))
        attempt = await fetched(it, row)
        assert await it.attempts.begin(attempt)
        file = await it.files.put(row.id, "output.wav", "audio/wav", b"RIFF")
        left = await it.files.put(row.id, "output.wav", "audio/wav", b"of a worker that died")
        half = tmp_path / row.id / "random" / "output.wav#1"  # by one that died while it wrote
        half.parent.mkdir()
        half.write_bytes(b"RI")
        foreign = await it.files.put("unknown", "output.wav", "audio/wav", b"of another database")
        assert await it.retention.sweep_files() == 0  # it is live
        assert await it.attempts.end(attempt, Outcome(Status.SUCCEEDED, output=file.reference, files=(file,)))
        assert await it.retention.sweep_files() == 2
        assert not half.parent.exists()
        assert await it.files.size(left.key) is None
        assert [b"".join([chunk async for chunk in it.files.read(file.key)])] == [b"RIFF"]
        assert await it.retention.remove(0) == 0  # its webhook is still owed
        await it.deliveries.settle(row.id, delivered=True)
        assert await it.retention.remove(3600) == 0
        assert await it.retention.remove(0) == 1
        old = await it.predictions.get(row.id)
        assert old is not None
        assert (old.input, old.output, old.files, old.logs, old.data_removed) == ({}, None, (), "", True)
        assert old.status is Status.SUCCEEDED
        assert await it.files.by_prediction() == {"unknown": [foreign.key]}
        assert [path.name for path in tmp_path.iterdir()] == ["unknown"]  # no empty folders

    with_record(database_url, tmp_path, test)


def test_files_are_read_in_ranges(database_url: str, tmp_path: Path) -> None:
    async def test(it: Record) -> None:
        file = await it.files.put("id", "a.bin", "application/octet-stream", bytes(range(100)))
        assert await it.files.size(file.key) == 100
        part = b"".join([chunk async for chunk in it.files.read(file.key, 10, 20)])
        assert part == bytes(range(10, 20))
        with pytest.raises(FileNotFoundError):
            _ = [chunk async for chunk in it.files.read("id/none/a.bin")]
        other = await it.files.put("id", "a.bin", "application/octet-stream", b"")
        assert other.key != file.key
        assert [chunk async for chunk in it.files.read(other.key)] == []
        assert await it.files.presigned(file.key, 60) is None  # a folder can't

    with_record(database_url, tmp_path, test)


def test_tokens_are_kept_as_hashes(database_url: str, tmp_path: Path) -> None:
    async def test(it: Record) -> None:
        token, secret = await it.tokens.create("laptop")
        assert await it.tokens.find(secret) == token
        assert await it.tokens.find(secret + "x") is None
        assert await it.tokens.find("\udcff") is None
        with pytest.raises(TokenError, match="'laptop'"):
            await it.tokens.create("laptop")
        with psycopg.connect(database_url) as connection:
            rows = connection.execute("select t::text from tokens t").fetchall()
        assert secret not in str(rows)
        assert await it.tokens.revoke("laptop")
        assert not await it.tokens.revoke("laptop")
        assert await it.tokens.find(secret) is None
        again, _ = await it.tokens.create("laptop")
        assert again.id != token.id  # it doesn't see the old one's predictions
        assert [one.revoked_at is None for one in await it.tokens.all()] == [False, True]

    with_record(database_url, tmp_path, test)


def test_any_text_of_an_input_is_kept(database_url: str, tmp_path: Path) -> None:
    given = {"z": "\0 \udc00 \u2028", "a": [1.0, 1, None, {"b": False}], "": 2**70}

    async def test(it: Record) -> None:
        row = await it.predictions.create(new(await owner(it), input=given))
        read = await it.predictions.get(row.id)
        assert read is not None
        assert read.input == given
        assert list(read.input) == ["z", "a", ""]

    with_record(database_url, tmp_path, test)
