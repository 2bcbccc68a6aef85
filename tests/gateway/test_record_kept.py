"""What the record stores, and for how long."""

from pathlib import Path

import psycopg
import pytest

from gateway.prediction import Outcome, Status
from gateway.record import Record
from gateway.record.tokens import TokenError
from tests.gateway.recording import begin, new, reload

pytestmark = pytest.mark.anyio


async def test_retention_removes_data_and_files_but_keeps_rows(record: Record, owner: int, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    row = await record.predictions.create(new(owner))
    attempt = await begin(record, row)
    file = await record.files.put(row.id, "output.wav", "audio/wav", b"RIFF")
    left = await record.files.put(row.id, "output.wav", "audio/wav", b"of a worker that died")
    partial = folder / row.id / "random" / "output.wav#1"  # by a worker that died while it wrote
    partial.parent.mkdir()
    partial.write_bytes(b"RI")
    foreign = await record.files.put("unknown", "output.wav", "audio/wav", b"of another database")
    assert await record.retention.sweep_files() == 0  # the prediction is running
    assert await record.attempts.end(attempt, Outcome(Status.SUCCEEDED, output=file.reference, files=(file,)))
    assert await record.retention.sweep_files() == 2
    assert not partial.parent.exists()
    assert await record.files.size(left.key) is None
    assert [b"".join([chunk async for chunk in record.files.read(file.key)])] == [b"RIFF"]
    assert await record.retention.remove(0) == 0  # its webhook is still owed
    await record.deliveries.settle(row.id, delivered=True)
    assert await record.retention.remove(3600) == 0
    assert await record.retention.remove(0) == 1
    old = await reload(record, row)
    assert (old.input, old.output, old.files, old.logs, old.data_removed) == ({}, None, (), "", True)
    assert old.status is Status.SUCCEEDED
    assert await record.files.by_prediction() == {"unknown": [foreign.key]}
    assert [path.name for path in folder.iterdir()] == ["unknown"]  # no empty folders


async def test_tokens_are_stored_as_hashes(record: Record, database_url: str) -> None:
    token, secret = await record.tokens.create("laptop")
    assert await record.tokens.find(secret) == token
    assert await record.tokens.find(secret + "x") is None
    assert await record.tokens.find("\udcff") is None
    with pytest.raises(TokenError, match="'laptop'"):
        await record.tokens.create("laptop")
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("select t::text from tokens t").fetchall()
    assert secret not in str(rows)
    assert await record.tokens.revoke("laptop")
    assert not await record.tokens.revoke("laptop")
    assert await record.tokens.find(secret) is None
    again, _ = await record.tokens.create("laptop")
    assert again.id != token.id  # so it doesn't see the predictions of the revoked one
    assert [one.revoked_at is None for one in await record.tokens.all()] == [False, True]


async def test_inputs_keep_any_text_and_their_order(record: Record, owner: int) -> None:
    inputs = {"z": "\0 \udc00 \u2028", "a": [1.0, 1, None, {"b": False}], "": 2**70}
    row = await reload(record, await record.predictions.create(new(owner, input=inputs)))
    assert row.input == inputs
    assert list(row.input) == ["z", "a", ""]
