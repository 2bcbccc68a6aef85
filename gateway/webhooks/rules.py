"""The rules for webhooks that both the API and the delivery follow: events and secrets."""

import base64
import hashlib
import hmac

EVENTS = ("start", "output", "logs", "completed")


def secret_of(key: bytes, owner: int) -> str:
    """Return the signing secret of an owner's webhooks, derived from the gateway's key.

    The form that clients expect is `whsec_` and 32 bytes in standard base64. The Python 1.x client splits it at its one
    underscore (docs/clients.md#webhook-secret); standard base64 has none.
    """
    derived = hmac.new(key, f"webhooks of {owner}".encode(), hashlib.sha256).digest()
    return f"whsec_{base64.b64encode(derived).decode()}"
