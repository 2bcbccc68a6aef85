"""Routes for files: Replicate's clients upload file handles here, and send the file's URL as the input."""

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from gateway import media_types
from gateway.api import errors, openapi
from gateway.api.create_body import file_limits, store_refusal
from gateway.api.dependencies import Caller, CallerDependency, Services, ServicesDependency, json_response
from gateway.api.files import forbidden, send
from gateway.api.form import Part, parts
from gateway.api.inputs import parse_json, shown
from gateway.api.limits import content_length, too_large
from gateway.links import LinkError, timestamp
from gateway.prediction import JsonObject, Position
from gateway.record.uploads import Upload

router = APIRouter()

PAGE = 100
MAX_NAME_BYTES = 255
MAX_FIELDS = 100
DEFAULT_NAME = "file"
ID = re.compile(r"[a-z0-9]{26}")
MEDIA_TYPE = re.compile(r'[\w.+-]+/[\w.+-]+(?: *; *[\w.+-]+=(?:[\w.+-]+|"[^"\r\n]*"))*', re.ASCII)
METADATA_FIELD = re.compile(r"metadata\[([^\]]*)\]")
CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@router.get("/files", **openapi.FILES)
async def list_files(
    services: ServicesDependency,
    caller: CallerDependency,
    cursor: Annotated[str | None, Query(description="The page, from `next`.")] = None,
) -> Response:
    """List your uploaded files, newest first."""
    found = await services.record.uploads.page(caller.owner, _position(cursor), PAGE + 1)
    shown_files = [_shown(upload, services, caller) for upload in found[:PAGE]]
    next_url = None
    if len(found) > PAGE:
        last = found[PAGE - 1]
        query = urlencode({"cursor": f"{timestamp(last.created_at)}_{last.id}"})
        next_url = f"{caller.base_url}/v1/files?{query}"
    return json_response({"previous": None, "next": next_url, "results": [*shown_files]})


@router.post("/files", **openapi.FILE_CREATE)
async def create_file(request: Request, services: ServicesDependency, caller: CallerDependency) -> Response:
    """Store the file of a form as it arrives."""
    received = ReceivedForm()
    try:
        await _receive(request, services, caller, received)
        if received.file_id is None:
            raise errors.unreadable("content", "content is required, a file")
        upload = await services.record.uploads.keep(
            received.file_id,
            received.name(),
            received.media_type(),
            received.metadata(),
            services.settings.file_retention_s,
        )
    except BaseException as error:
        await services.record.uploads.discard([received.file_id] if received.file_id else [])
        if refusal := store_refusal(error):
            raise refusal from error
        raise
    if upload is None:
        raise errors.unavailable("The file took too long to arrive.")
    return json_response(_shown(upload, services, caller), 201)


FileId = Annotated[str, Path(description="The ID of the file")]


@router.get("/files/{file_id}", **openapi.FILE_GET)
async def get_file(file_id: FileId, services: ServicesDependency, caller: CallerDependency) -> Response:
    """Get a file's details."""
    upload = await services.record.uploads.get(_id(file_id), caller.owner)
    if upload is None:
        raise errors.not_found()
    return json_response(_shown(upload, services, caller))


@router.delete("/files/{file_id}", **openapi.FILE_DELETE)
async def delete_file(file_id: FileId, services: ServicesDependency, caller: CallerDependency) -> Response:
    """Delete a file. A queued prediction that has it as an input will fail."""
    if not await services.record.uploads.delete(_id(file_id), caller.owner):
        raise errors.not_found()
    return Response(status_code=204)


@router.get("/files/{file_id}/download", include_in_schema=False)
async def download_file(
    file_id: FileId,
    request: Request,
    services: ServicesDependency,
    owner: str = "",
    expiry: str = "",
    signature: str = "",
) -> Response:
    """Send a file's content. The URL is signed, so it needs no token."""
    try:
        services.record.links.check_download(file_id, owner, expiry, signature)
    except LinkError as error:
        raise forbidden(error) from error
    upload = await services.record.uploads.get(file_id)
    if upload is None or upload.owner_name != owner:
        raise errors.not_found()
    return await send(request, services, upload.file)


@dataclass
class ReceivedForm:
    """What has arrived of the form of an upload."""

    file_id: str | None = None
    content: Part | None = None
    fields: dict[str, bytearray] = field(default_factory=dict)

    def name(self) -> str:
        """Return the file's name, from the field `filename` or the file itself."""
        name = _text("filename", self.fields.get("filename", bytearray())) or (self.content and self.content.filename)
        if not name:
            return DEFAULT_NAME
        if len(name.encode()) > MAX_NAME_BYTES:
            raise errors.unreadable("filename", f"Must have at most {MAX_NAME_BYTES} bytes, but is {shown(name)}")
        return CONTROL.sub("-", name)

    def media_type(self) -> str:
        """Return the file's type, from the field `type`, the file itself or its name."""
        given = _text("type", self.fields.get("type", bytearray()))
        if given and not MEDIA_TYPE.fullmatch(given):
            raise errors.unreadable("type", f"Must be a media type such as image/png, but is {shown(given)}")
        of_part = self.content.media_type if self.content else None
        if of_part and not MEDIA_TYPE.fullmatch(of_part):
            of_part = None
        return given or of_part or media_types.of_name(self.name()) or media_types.UNKNOWN

    def metadata(self) -> JsonObject:
        """Return the metadata: the field `metadata`, JSON, or fields such as `metadata[key]`, texts."""
        if given := self.fields.get("metadata"):
            value = parse_json(bytes(given))
            if not isinstance(value, dict):
                raise errors.unreadable("metadata", "Must be a JSON object")
            return value
        keys = {name: METADATA_FIELD.fullmatch(name) for name in self.fields}  # as the Python 2.x client sends it
        return {key[1]: _text(name, self.fields[name]) for name, key in keys.items() if key}


async def _receive(request: Request, services: Services, caller: Caller, received: ReceivedForm) -> None:
    """Receive a form: store its file, and remember its other fields."""
    settings = services.settings
    limits = file_limits(settings)
    expected_bytes = content_length(request) or limits.file_bytes
    form = parts(request, limits.file_bytes + settings.body_bytes, settings.body_s)
    left_bytes = settings.body_bytes
    async for part in form:
        assert isinstance(part, Part)  # noqa: S101 - the loops below take the part's data and its end
        if part.name == "content" and received.content is None:
            received.content = part
            name, media_type = part.filename or DEFAULT_NAME, received.media_type()
            async with services.record.uploads.receiving(
                caller.owner, name, media_type, expected_bytes, limits
            ) as file:
                while isinstance(data := await anext(form), bytes):
                    await file.write(data)
            received.file_id = file.id
            continue
        if len(received.fields) == MAX_FIELDS:
            raise errors.unreadable("body", f"Must have at most {MAX_FIELDS} fields")
        value = received.fields[part.name] = bytearray()
        while isinstance(data := await anext(form), bytes):
            value += data
            left_bytes -= len(data)
            if left_bytes < 0:
                raise too_large(settings.body_bytes)


def _text(name: str, value: bytearray) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        raise errors.unreadable(name, "Must be UTF-8") from error
    if "\0" in text:
        raise errors.unreadable(name, "Must not contain a NUL character")
    return text


def _shown(upload: Upload, services: Services, caller: Caller) -> JsonObject:
    """Return a file's JSON object."""
    links = services.record.links
    return {
        "id": upload.id,
        "name": upload.name,
        "content_type": upload.media_type,
        "size": upload.size,
        "etag": upload.md5,
        "checksums": {"sha256": upload.sha256, "md5": upload.md5},
        "metadata": upload.metadata,
        "created_at": timestamp(upload.created_at),
        "expires_at": timestamp(upload.expires_at),
        "urls": {
            "get": links.upload(caller.base_url, upload.id),
            "download": links.download(caller.base_url, upload.id, upload.owner_name),
        },
    }


def _id(file_id: str) -> str:
    """Return a well-formed id, or raise a Refusal: PostgreSQL takes no NUL."""
    if not ID.fullmatch(file_id):
        raise errors.not_found()
    return file_id


def _position(cursor: str | None) -> Position | None:
    """Parse a cursor, the time and id of the last file of a page. Raise a Refusal if invalid."""
    if cursor is None:
        return None
    created_at, _, file_id = cursor.partition("_")
    try:
        moment = datetime.fromisoformat(created_at)
        if moment.tzinfo is None or not ID.fullmatch(file_id):
            raise ValueError
    except ValueError as error:
        raise errors.unreadable("cursor", f"Must come from `next`, but is {shown(cursor)}") from error
    return Position(moment, file_id)
