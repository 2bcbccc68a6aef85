"""What inputs name besides themselves: files, which the worker will need, and secrets, which are stored apart."""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit

from gateway.addresses import check_url, normalized
from gateway.api import errors
from gateway.api.create_body import DataUrl
from gateway.api.dependencies import Caller, Services
from gateway.api.errors import InvalidField
from gateway.api.files import stored_file
from gateway.api.inputs import Place, is_secret, shown, uris
from gateway.catalog import Version
from gateway.links import LinkError
from gateway.prediction import REDACTED, File, InputFile, Json, JsonObject

MAX_FILES = 500  # of a prediction
MAX_URL_CHARS = 8000  # a presigned URL may have thousands
# The paths of our own files, with any of our prefixes, and behind a proxy perhaps with one more.
UPLOAD = re.compile(r"/files/([a-z0-9]{26})(/download)?$")
OUTPUT = re.compile(r"/outputs/([^/]+)/(.+)$")


@dataclass(frozen=True)
class Inputs:
    """A prediction's inputs as they are stored."""

    shown: JsonObject  # with references in place of long data URLs, and secrets redacted
    files: tuple[InputFile, ...]
    uploads: tuple[str, ...]  # the ids of the uploads that the files of its data URLs are
    secrets: JsonObject  # by name


async def restored(
    services: Services, version: Version, given: JsonObject, data_urls: Mapping[str, DataUrl]
) -> JsonObject:
    """Return inputs in which a long data URL is a reference only where the schema wants a URI.

    In other inputs it is a text like any other, with the limit of a request's body.

    Raises:
        Refusal: The texts are larger than that.
    """
    if not data_urls:
        return given
    left_bytes = services.settings.body_bytes

    async def walk(value: Json, kept: frozenset[Place], at: Place) -> Json:
        nonlocal left_bytes
        if isinstance(value, str) and value in data_urls and at not in kept:
            stored = data_urls[value]
            left_bytes -= stored.file.size * 4 // 3
            if left_bytes < 0:
                detail = f"The texts of the inputs must have at most {services.settings.body_bytes} bytes."
                raise errors.Refusal(413, "Request too large", detail)
            data = b"".join([chunk async for chunk in services.record.files.read(stored.file.key)])
            return stored.head + base64.b64encode(data).decode()
        if isinstance(value, list):
            return [await walk(item, kept, (*at, number)) for number, item in enumerate(value)]
        if isinstance(value, dict):
            return {key: await walk(item, kept, (*at, key)) for key, item in value.items()}
        return value

    known = {name: value for name, value in given.items() if name in version.inputs}
    places = {name: frozenset(at for at, _ in uris(version.inputs[name], value)) for name, value in known.items()}
    return {name: await walk(value, places[name], ()) for name, value in known.items()}


async def prepared(
    services: Services, caller: Caller, version: Version, values: JsonObject, data_urls: Mapping[str, DataUrl]
) -> Inputs:
    """Find the files and secrets in verified inputs.

    Raises:
        Refusal: A URL names a private address, or a file of ours that doesn't exist.
    """
    files: list[InputFile] = []
    used: list[str] = []
    wrong: list[InvalidField] = []
    for name, value in values.items():
        for at, uri in uris(version.inputs[name], value):
            if len(files) == MAX_FILES:
                raise errors.unreadable(f"input.{name}", f"A prediction may have at most {MAX_FILES} files")
            named = InputFile((name, *at), None)
            if stored := data_urls.get(uri):
                files.append(InputFile(named.at, stored.file))
                used.append(stored.id)
            elif not uri.lower().startswith("data:"):
                try:
                    files.append(InputFile(named.at, await own_file(services, caller, uri)))
                except ValueError as error:
                    wrong.append(InvalidField("format", named.field, f"{error}, but is {shown(uri)}"))
    if wrong:
        raise errors.invalid(wrong)
    secrets = {name: value for name, value in values.items() if is_secret(version.inputs[name])}
    visible = {name: _redacted(value) if name in secrets else value for name, value in values.items()}
    return Inputs(visible, tuple(files), tuple(used), secrets)


async def own_file(services: Services, caller: Caller, url: str) -> File | None:
    """Return our own file that a URL names, or None for a URL that the worker will fetch.

    Our own files are recognised by their unguessable ids and signatures, not by the URL's host: clients may reach the
    gateway by several.

    Raises:
        ValueError: The URL isn't allowed, or there is no such file; the message says why.
    """
    parts = urlsplit(url)
    upload, output = UPLOAD.search(parts.path), OUTPUT.search(parts.path)
    file = None
    if upload:
        file = await _uploaded(services, caller, upload[1], parts.query if upload[2] else None)
    elif output:
        file = await _signed(services, output[1], unquote(output[2]))
    if file:
        return file
    if (upload or output) and url.startswith((f"{caller.base_url}/", f"{services.settings.base_url}/")):
        raise ValueError("Must be the URL of a file that exists and has not expired")
    check_url(normalized(url), http=True, private=services.settings.input_private, max_chars=MAX_URL_CHARS)
    return None


async def _uploaded(services: Services, caller: Caller, file_id: str, download: str | None) -> File | None:
    """Return an uploaded file of the caller's, or anybody's for the query of a signed download."""
    if download is None:
        upload = await services.record.uploads.get(file_id, caller.owner)
        return upload.file if upload else None
    query = {name: values[0] for name, values in parse_qs(download).items()}
    owner = query.get("owner", "")
    try:
        services.record.links.check_download(file_id, owner, query.get("expiry", ""), query.get("signature", ""))
    except LinkError:
        return None
    upload = await services.record.uploads.get(file_id)
    return upload.file if upload and upload.owner_name == owner else None


async def _signed(services: Services, signature: str, key: str) -> File | None:
    """Return a file whose URL is signed: of an output, or of a data URL in an earlier input."""
    try:
        services.record.links.check("file", key, signature)
    except LinkError:
        return None
    return await stored_file(services, key)


def _redacted(value: Json) -> Json:
    """Return a secret input as it is shown."""
    return [_redacted(item) for item in value] if isinstance(value, list) else REDACTED
