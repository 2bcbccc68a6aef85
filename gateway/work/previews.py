"""Ask a model's side what an input will do: a small server beside its Cog server, which has no route for it."""

from typing import cast

import httpx

from gateway.record import JsonObject

ANSWER_S = 5.0


class Previews:
    """A client of the preview servers."""

    def __init__(self) -> None:
        self._client = httpx.AsyncClient(timeout=ANSWER_S, trust_env=False)

    async def ask(self, url: str, values: JsonObject) -> JsonObject | None:
        """Return the preview of an input; None where the server at `url` does not answer as it should."""
        try:
            reply = await self._client.post(url, json={"input": values})
            reply.raise_for_status()
            return cast(JsonObject, reply.json())
        except (httpx.HTTPError, ValueError):
            return None

    async def close(self) -> None:
        """Close its connections."""
        await self._client.aclose()
