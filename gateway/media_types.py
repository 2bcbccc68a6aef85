"""Media types of files, their extensions, and what a file's first bytes say."""

import mimetypes

UNKNOWN = "application/octet-stream"
# Extensions that the machine's own table may lack or name differently.
_EXTENSIONS = {
    "audio/wav": ".wav",
    "audio/x-wav": ".wav",
    "audio/mpeg": ".mp3",
    "audio/flac": ".flac",
    "audio/ogg": ".ogg",
    "image/jpeg": ".jpg",
    "image/webp": ".webp",
    "video/mp4": ".mp4",
    "video/webm": ".webm",
    UNKNOWN: ".bin",
    "text/plain": ".txt",
}
# What the files of common types begin with: bytes by their offset.
_MAGIC: tuple[tuple[str, dict[int, bytes]], ...] = (
    ("image/png", {0: b"\x89PNG\r\n\x1a\n"}),
    ("image/jpeg", {0: b"\xff\xd8\xff"}),
    ("image/gif", {0: b"GIF8"}),
    ("image/webp", {0: b"RIFF", 8: b"WEBP"}),
    ("audio/wav", {0: b"RIFF", 8: b"WAVE"}),
    ("audio/flac", {0: b"fLaC"}),
    ("audio/ogg", {0: b"OggS"}),
    ("audio/mpeg", {0: b"ID3"}),
    ("video/mp4", {4: b"ftyp"}),
    ("video/webm", {0: b"\x1a\x45\xdf\xa3"}),
    ("application/pdf", {0: b"%PDF-"}),
    ("application/zip", {0: b"PK\x03\x04"}),
)
MAGIC_BYTES = 16  # how many first bytes tell the type


def extension(media_type: str) -> str:
    """Return the extension of files of this type, such as .png, or .bin."""
    return _EXTENSIONS.get(media_type) or mimetypes.guess_extension(media_type) or ".bin"


def of_name(name: str) -> str | None:
    """Return the type that a file's name says, or None."""
    suffix = f".{name.rpartition('.')[2].lower()}" if "." in name else ""
    known = next((media_type for media_type, its in _EXTENSIONS.items() if its == suffix), None)
    return known or mimetypes.guess_type(name)[0]


def of_content(head: bytes) -> str | None:
    """Return the type that a file's first bytes say, or None."""
    for media_type, magic in _MAGIC:
        if all(head.startswith(expected, offset) for offset, expected in magic.items()):
            return media_type
    return None
