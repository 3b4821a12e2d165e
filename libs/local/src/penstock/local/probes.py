"""Whether a service is ready, by its own `/readyz`."""

import asyncio
import json
import urllib.error
import urllib.request

_TIMEOUT = 3.0


async def readyz(port: int) -> str | None:
    """None when the process on this port is ready, else its reason."""
    return await asyncio.to_thread(_ask, f"http://127.0.0.1:{port}/readyz")


def _ask(url: str) -> str | None:
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT):  # noqa: S310  (a URL of our own)
            return None
    except urllib.error.HTTPError as error:
        with error:
            return _reason(error.read()) or f"answers {error.code}"
    except (OSError, ValueError):
        return "does not answer yet"


def _reason(body: bytes) -> str | None:
    try:
        reason = json.loads(body).get("reason")
    except (ValueError, AttributeError):
        return None
    return str(reason) if reason else None
