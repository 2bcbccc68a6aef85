"""Send one webhook: signed, without redirects, to an address that is checked at the connection."""

import asyncio
from dataclasses import dataclass

import httpcore
from standardwebhooks import Webhook

from gateway.addresses import AddressError, check_url, guarded_pool, host_header
from gateway.clock import Now, own_time


class NotDeliveredError(Exception):
    """A webhook was not delivered; str() says why."""


@dataclass(frozen=True)
class Message:
    """A webhook to send."""

    id: str  # the same at each try
    url: str
    body: bytes
    secret: str


class Sender:
    """Sends webhooks over a pool of connections."""

    def __init__(self, *, try_s: float, http: bool, private: bool, now: Now = own_time) -> None:
        self._try_s = try_s
        self._now = now
        self._http = http
        self._private = private
        self._pool = guarded_pool(private=private, max_connections=64)

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.aclose()

    async def send(self, message: Message) -> None:
        """POST a message once.

        Raises:
            NotDeliveredError: The answer is not 200 to 299, or doesn't arrive in time.
        """
        try:
            # The setting may have changed since the prediction was created.
            check_url(message.url, http=self._http, private=self._private)
            async with asyncio.timeout(self._try_s):
                status = await self._post(message)
        except TimeoutError as error:
            raise NotDeliveredError(f"no answer within {self._try_s:g} s") from error
        except ValueError as error:
            raise NotDeliveredError(f"the address is refused: {error}") from error
        except AddressError as error:
            raise NotDeliveredError(str(error)) from error
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError) as error:
            raise NotDeliveredError(f"{type(error).__name__}: {error}") from error
        if not 200 <= status < 300:  # redirects among them: httpcore follows none
            raise NotDeliveredError(f"the answer was {status}")

    async def _post(self, message: Message) -> int:
        now = self._now()  # in UTC: sign() ignores the time zone
        text = message.body.decode()
        headers = {
            "content-type": "application/json",
            "user-agent": "gateway-webhooks",
            "webhook-id": message.id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(message.secret).sign(message.id, now, text),
            "content-length": str(len(message.body)),
        }
        host = httpcore.URL(message.url)
        headers["host"] = host_header(host)
        async with self._pool.stream(
            "POST", message.url, headers=list(headers.items()), content=message.body
        ) as answer:
            return answer.status  # the response's body is never read
