"""The JSON of a prediction, and the URLs in it: the one place that knows them.

An answer, a webhook's body and an event of a stream come from here. URLs of files and streams carry a signature that
expires, since clients fetch them without a token (trap 7).
"""

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from math import ceil
from typing import Literal, TypeAlias
from urllib.parse import quote

from itsdangerous import Signer

from gateway.record.clock import Now, own_time
from gateway.record.rows import File, Json, JsonObject, Prediction, resolve
from gateway.record.statuses import Status

MAX_EXPIRES_DIGITS = 12

Purpose: TypeAlias = Literal["file", "stream"]
PURPOSES: tuple[Purpose, ...] = ("file", "stream")


class LinkError(Exception):
    """Say that a signed URL is not ours, or too old."""


@dataclass(frozen=True)
class Links:
    """Make the signed URLs, and tell what they stand for."""

    key: bytes = field(repr=False)  # the record's secret for files
    file_url_s: float  # how long a URL is good for, at least
    now: Now = own_time  # the same for all that sign and check

    def body(self, row: Prediction) -> bytes:
        """Return a prediction as GET answers it, with URLs for its files: the body of its webhooks."""
        return encode(self.shown(row))

    def shown(
        self, row: Prediction, inline: Mapping[str, str] | None = None, status: Status | None = None
    ) -> JsonObject:
        """Return a prediction's JSON object.

        `inline` has data URLs by the files' keys, to stand in the place of URLs; `status` one to show in its own's.
        """
        known = inline or {}
        shown: JsonObject = {
            "id": row.id,  # trap 5: PY1 requires id, model, version and status, and an error that is text or null
            "model": row.model,
            "version": row.version,
            "input": row.input,
            "output": resolve(
                row.output, row.files, lambda file: known.get(file.key) or self.file(row.base_url, file.key)
            ),
            "logs": row.logs,
            "error": row.error,
            "status": str(status or row.status),  # trap 3: never `aborted`; Status has no such member
            "source": "api",
            "data_removed": row.data_removed,
            "created_at": timestamp(row.created_at),
            "started_at": timestamp(row.started_at),
            "completed_at": timestamp(row.completed_at),
            "metrics": row.metrics,
            "urls": {
                "get": f"{row.base_url}/v1/predictions/{row.id}",
                "cancel": f"{row.base_url}/v1/predictions/{row.id}/cancel",
                "web": f"{row.base_url}/?prediction={row.id}",
                # Trap 8: JS never asks for a stream, so its URL always stands here. Trap 4: were there none, the
                # name would have to be left out: PY1 takes no null.
                "stream": self.stream(row.base_url, row.id),
            },
        }
        if row.deadline:
            shown["deadline"] = timestamp(row.deadline)
        if row.webhook:
            shown["webhook"] = row.webhook
            shown["webhook_events_filter"] = list(row.webhook_events)
        return shown

    def file(self, base_url: str, key: str) -> str:
        """Return the URL of an output file; it ends in the file's name, which browsers save it by."""
        return f"{base_url}/outputs/{self._signature('file', key)}/{quote(key)}"

    def stream(self, base_url: str, prediction_id: str) -> str:
        """Return the URL of a prediction's events."""
        return f"{base_url}/v1/stream/{self._signature('stream', prediction_id)}/{prediction_id}"

    def check(self, purpose: Purpose, what: str, signature: str) -> None:
        """Raise LinkError unless a file's key, or a stream's id, has a signature of ours that has not expired."""
        expires, _, mac = signature.partition("-")
        if not (expires.isascii() and expires.isdecimal() and len(expires) <= MAX_EXPIRES_DIGITS):
            raise LinkError("the URL's signature is not ours")
        ours = self._signers[purpose].get_signature(f"{expires} {what}".encode("utf-8", "replace"))
        # As text: decoded, other spellings of the same base64 would pass.
        if not hmac.compare_digest(ours, mac.encode("utf-8", "replace")):
            raise LinkError("the URL's signature is not ours")
        if self.now().timestamp() > int(expires):
            raise LinkError("the URL has expired")

    def _signature(self, purpose: Purpose, what: str) -> str:
        # Expiries are rounded up, so that a URL stays the same for a while and a browser can keep what it fetched.
        step_s = max(1, int(self.file_url_s / 4))
        expires = str(ceil((self.now().timestamp() + self.file_url_s) / step_s) * step_s)
        return f"{expires}-{self._signers[purpose].get_signature(f'{expires} {what}').decode()}"

    @cached_property
    def _signers(self) -> dict[Purpose, Signer]:
        """Return a signer for each purpose, with a key of its own: a stream's URL opens no file."""
        # Derived here, once, instead of by itsdangerous at each use: a page of a list has hundreds of URLs.
        keys = {purpose: hmac.digest(self.key, purpose.encode(), "sha256") for purpose in PURPOSES}
        return {
            purpose: Signer(key, key_derivation="none", digest_method=hashlib.sha256) for purpose, key in keys.items()
        }


def encode(shown: Json) -> bytes:
    """Return JSON as bytes: text as it is, but escaped where it holds half a surrogate pair, which has no UTF-8."""
    try:
        return json.dumps(shown, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return json.dumps(shown, allow_nan=False, separators=(",", ":")).encode()


def timestamp(moment: datetime | None) -> str | None:
    """Return a time as the API writes it: 2026-01-31T21:00:00.123456Z."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z") if moment else None


def file_of(row: Prediction, key: str) -> File | None:
    """Return the file of a prediction with that key."""
    return next((file for file in row.files if file.key == key), None)
