"""Small images of larger ones, kept in memory."""

import asyncio
import base64
import io
import logging
import warnings
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable

from PIL import Image

from gateway.prediction import File

logger = logging.getLogger(__name__)

FORMATS = ("PNG", "JPEG", "GIF", "WEBP")  # of the many that Pillow reads
SIZE_PX = (200, 200)  # 150 px wide on the page
QUALITY = 50
MAX_FILE_BYTES = 32 << 20
MAX_PIXELS = 40_000_000
KEPT = 2000  # 4 kB each


class Thumbnails:
    """Make thumbnails, one at a time, and keep those that were used last."""

    def __init__(self, read: Callable[[str], AsyncIterator[bytes]], kept: int = KEPT) -> None:
        """Take a function that reads a file by its key, in chunks, and how many thumbnails are kept."""
        self._read = read
        self._most = kept
        self._kept: OrderedDict[str, str] = OrderedDict()  # by a file's key; "" if none can be made
        self._one = asyncio.Lock()

    async def of(self, file: File) -> str:
        """Return a file's thumbnail as a data URL, or "" if none can be made."""
        async with self._one:
            if file.key not in self._kept:
                self._kept[file.key] = await self._make(file)
                while len(self._kept) > self._most:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(file.key)
            return self._kept[file.key]

    async def _make(self, file: File) -> str:
        if file.size > MAX_FILE_BYTES:
            return ""
        try:
            data = b"".join([chunk async for chunk in self._read(file.key)])
            small = await asyncio.to_thread(shrink, data)
        except Exception as error:  # noqa: BLE001 - Pillow raises many kinds for broken files, as stores do
            logger.warning("can't make a thumbnail", extra={"error": repr(error)})
            return ""
        return f"data:image/webp;base64,{base64.b64encode(small).decode()}"


def shrink(data: bytes) -> bytes:
    """Return an image as a small WebP.

    Raises:
        ValueError: It has too many pixels to be decoded. Pillow raises other errors for what it can't read.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is lower
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"the image has {image.width} x {image.height} pixels")
            image.draft("RGB", SIZE_PX)  # decodes a JPEG at a fraction of its size
            small = image.convert("RGBA" if image.has_transparency_data else "RGB")
            small.thumbnail(SIZE_PX)
            written = io.BytesIO()
            small.save(written, "WEBP", quality=QUALITY)
            return written.getvalue()
