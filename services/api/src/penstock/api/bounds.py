"""No request is held in memory beyond a bound, whoever sends it."""

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BODY_BYTES = 1024 * 1024
"""Of every call but uploads; a question that fits into an event is a quarter of it."""

_STREAMED = ("POST", "/v1/documents")
"""Reads its own body, piece by piece, once it knows who sends it."""


class Bounded:
    """Pure ASGI. FastAPI reads a JSON body whole before it asks for a key."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or (scope["method"], scope["path"]) == _STREAMED:
            await self._app(scope, receive, send)
            return
        taken = 0

        async def bounded() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > MOST_BODY_BYTES:
                raise HTTPException(413, f"the body has more than {MOST_BODY_BYTES} bytes")
            return message

        await self._app(scope, bounded, send)
