"""The JSON of a prediction and the URLs in it, for responses, webhook bodies and stream events.

The URLs of files and streams carry a signature that expires, because clients fetch them without a token
(docs/clients.md#signed-urls).
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from math import ceil, floor
from typing import Literal, TypeAlias
from urllib.parse import quote, urlencode

from itsdangerous import Signer

from gateway.clock import Now, own_time
from gateway.prediction import Json, JsonObject, Prediction, Status, resolve

MAX_EXPIRES_DIGITS = 12
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Purpose: TypeAlias = Literal["file", "stream", "download"]
PURPOSES: tuple[Purpose, ...] = ("file", "stream", "download")


class LinkError(Exception):
    """A signed URL is invalid or has expired."""


@dataclass(frozen=True)
class Links:
    """Makes and checks signed URLs."""

    key: bytes = field(repr=False)  # the record's secret for files
    file_url_s: float  # the least time that a URL stays valid
    now: Now = own_time  # the same clock for all that sign and check

    def body(self, row: Prediction) -> bytes:
        """Return the body of a webhook: the prediction as a GET shows it, with URLs for its files."""
        return encode(self.prediction(row))

    def prediction(
        self, row: Prediction, inline: Mapping[str, str] | None = None, status: Status | None = None
    ) -> JsonObject:
        """Return a prediction's JSON object.

        Args:
            row: The prediction.
            inline: Data URLs by the keys of files, to use in place of signed URLs.
            status: A status to show in place of the prediction's own.
        """
        known = inline or {}
        since = row.completed_at or row.created_at
        shown: JsonObject = {
            "id": row.id,  # id, model, version and status are required: docs/clients.md#required-fields
            "model": row.model,
            "version": row.version,
            "input": resolve(
                row.input,
                tuple(named.file for named in row.input_files if named.file),
                lambda file: self.file(row.base_url, file.key),
            ),
            "output": resolve(
                row.output, row.files, lambda file: known.get(file.key) or self.file(row.base_url, file.key, since)
            ),
            "logs": row.logs,
            "error": row.error,
            "status": str(status or row.status),  # never `aborted`: docs/clients.md#status-values
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
                # Always there, because the JavaScript client never asks for a stream (docs/clients.md#stream-url). A
                # URL that doesn't exist must be left out, not null (docs/clients.md#no-null-urls).
                "stream": self.stream(row.base_url, row.id, row.created_at),
            },
        }
        if row.deployment:
            shown["deployment"] = row.deployment
        if row.deadline:
            shown["deadline"] = timestamp(row.deadline)
        if row.webhook:
            shown["webhook"] = row.webhook
            shown["webhook_events_filter"] = list(row.webhook_events)
        return shown

    def file(self, base_url: str, key: str, since: datetime = EPOCH) -> str:
        """Return the URL of an output file.

        Args:
            base_url: The gateway's address.
            key: The file's key. It ends with the file's name, which browsers use when they save it.
            since: When the URL's first lifetime began; a file's prediction ends then.
        """
        return f"{base_url}/outputs/{self._signature('file', key, since)}/{quote(key)}"

    def upload(self, base_url: str, file_id: str) -> str:
        """Return the URL of an uploaded file, which clients send as an input."""
        return f"{base_url}/v1/files/{file_id}"

    def download(self, base_url: str, file_id: str, owner: str) -> str:
        """Return the URL that downloads an uploaded file, in Replicate's form."""
        expiry = self._expiry()
        signature = self._download_mac(owner, file_id, expiry)
        query = urlencode({"expiry": expiry, "owner": owner, "signature": signature})
        return f"{base_url}/v1/files/{file_id}/download?{query}"

    def stream(self, base_url: str, prediction_id: str, since: datetime = EPOCH) -> str:
        """Return the URL of a prediction's event stream."""
        return f"{base_url}/v1/stream/{self._signature('stream', prediction_id, since)}/{prediction_id}"

    def check(self, purpose: Purpose, what: str, signature: str) -> None:
        """Check the signature in a URL.

        Args:
            purpose: What the URL opens.
            what: A file's key, or the id of a stream's prediction.
            signature: The signature from the URL.

        Raises:
            LinkError: The signature is invalid or has expired.
        """
        expires, _, mac = signature.partition("-")
        ours = self._signers[purpose].get_signature(f"{expires} {what}".encode("utf-8", "replace"))
        self._check(expires, ours, mac)

    def check_download(self, file_id: str, owner: str, expiry: str, signature: str) -> None:
        """Check the parameters of a download's URL.

        Raises:
            LinkError: The signature is invalid or has expired.
        """
        self._check(expiry, self._download_mac(owner, file_id, expiry), signature)

    def _check(self, expires: str, ours: bytes, given: str) -> None:
        if not (expires.isascii() and expires.isdecimal() and len(expires) <= MAX_EXPIRES_DIGITS):
            raise LinkError("the URL's signature is invalid")
        # Compared as text: decoded, other spellings of the same base64 would match too.
        if not hmac.compare_digest(ours, given.encode("utf-8", "replace")):
            raise LinkError("the URL's signature is invalid")
        if self.now().timestamp() > int(expires):
            raise LinkError("the URL has expired")

    def _download_mac(self, owner: str, file_id: str, expiry: str) -> bytes:
        """Return what Replicate documents: the base64 of an HMAC-SHA256 of "{owner} {id} {expiry}"."""
        what = f"{owner} {file_id} {expiry}".encode("utf-8", "replace")
        return base64.b64encode(hmac.digest(self._keys["download"], what, "sha256"))

    def _expiry(self) -> str:
        """Return when a URL that is made now expires, in seconds since 1970."""
        # Rounded up, so that a URL stays the same for a while and a browser can cache the file.
        step_s = max(1, int(self.file_url_s / 4))
        return str(ceil((self.now().timestamp() + self.file_url_s) / step_s) * step_s)

    def _signature(self, purpose: Purpose, what: str, since: datetime) -> str:
        # A URL stays the same for a whole lifetime, counted from `since`, so that a browser can cache the file. With
        # the default settings that is until retention deletes it.
        lifetimes = floor((self.now() - since).total_seconds() / self.file_url_s)
        expires = str(ceil(since.timestamp() + (lifetimes + 2) * self.file_url_s))
        return f"{expires}-{self._signers[purpose].get_signature(f'{expires} {what}').decode()}"

    @cached_property
    def _keys(self) -> dict[Purpose, bytes]:
        """A key for each purpose, so that a stream's URL opens no file."""
        return {purpose: hmac.digest(self.key, purpose.encode(), "sha256") for purpose in PURPOSES}

    @cached_property
    def _signers(self) -> dict[Purpose, Signer]:
        """A signer for each purpose."""
        # Keys are derived once, not by itsdangerous at each use: a page of a list has hundreds of URLs.
        return {
            purpose: Signer(key, key_derivation="none", digest_method=hashlib.sha256)
            for purpose, key in self._keys.items()
        }


def encode(shown: Json) -> bytes:
    """Return JSON as UTF-8 bytes. Text with a lone surrogate, which has no UTF-8 form, is escaped."""
    try:
        return json.dumps(shown, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return json.dumps(shown, allow_nan=False, separators=(",", ":")).encode()


def timestamp(moment: datetime | None) -> str | None:
    """Return a time in the API's format, such as 2026-01-31T21:00:00.123456Z."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z") if moment else None
