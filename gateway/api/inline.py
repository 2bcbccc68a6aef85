"""Output files as data URLs, for clients that take no http URL for a file."""

import base64
import logging
import re

from fastapi import Request
from obstore.exceptions import BaseError

from gateway.api.services import Services
from gateway.record import Prediction

logger = logging.getLogger(__name__)

# Trap 6: Replicate's own clients make a file object of what begins with https: or data:, and leave the rest as text.
OWN_CLIENTS = re.compile(r"replicate-(python|javascript)/|(Async)?Replicate/Python ")


def wanted(request: Request, services: Services, base_url: str) -> bool:
    """Tell whether this client gets data URLs."""
    if services.settings.output_files != "auto":
        return services.settings.output_files == "data"
    return not base_url.startswith("https:") and bool(OWN_CLIENTS.match(request.headers.get("user-agent", "")))


async def data_urls(request: Request, services: Services, row: Prediction) -> dict[str, str]:
    """Return data URLs by the keys of a prediction's files; none where URLs do, or where it would be too much."""
    size = sum(file.size for file in row.files)
    if not size or size > services.settings.data_url_bytes or not wanted(request, services, row.base_url):
        return {}
    urls = {}
    try:
        for file in row.files:
            data = b"".join([chunk async for chunk in services.record.files.read(file.key)])
            urls[file.key] = f"data:{file.media_type};base64,{base64.b64encode(data).decode()}"
    except (OSError, BaseError) as error:  # retention was quicker, or the store does not answer
        logger.warning("no data URLs", extra={"prediction": row.id, "error": str(error)})
        return {}
    return urls
