"""A model behind the real protocol: a server on loopback that speaks it, well, badly or not at all."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from penstock.local.ports import free_port

KEY = "right-key"

_USAGE = {"prompt_tokens": 40, "completion_tokens": 9, "total_tokens": 49}
_COMMON = {"id": "x", "created": 1, "model": "small"}


class ChatServer:
    """POST /v1/chat/completions; `replies` are used up in order, each a text or a Response."""

    def __init__(self) -> None:
        self.replies: list[str | Callable[[], Response]] = []
        self.requests: list[dict[str, Any]] = []
        self.callers: list[Any] = []
        """The address of each request's connection."""
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self.hold: asyncio.Event | None = None
        """Before the last piece of an answer."""
        self.silence: asyncio.Event | None = None
        """Before anything: a connection is taken, and nothing said."""
        self.broken_after: int | None = None

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Outside of it, connections are refused."""
        app = Starlette(routes=[Route("/v1/chat/completions", self.complete, methods=["POST"])])
        config = uvicorn.Config(
            app, host="127.0.0.1", port=self.port, log_config=None, lifespan="off"
        )
        server = uvicorn.Server(config)
        socket = config.bind_socket()
        task = asyncio.create_task(server.serve(sockets=[socket]))
        try:
            yield
        finally:
            if self.silence is not None:
                self.silence.set()
            server.should_exit = True
            await task
            socket.close()

    async def complete(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return JSONResponse({"error": {"message": "Incorrect API key", "type": "auth"}}, 401)
        body = await request.json()
        self.requests.append(body)
        self.callers.append(request.client)
        if self.silence is not None:
            await self.silence.wait()
        reply = self.replies.pop(0)
        if not isinstance(reply, str):
            return reply()
        if body.get("stream"):
            return StreamingResponse(self._chunks(reply), media_type="text/event-stream")
        return JSONResponse(_completion(reply))

    async def _chunks(self, text: str) -> AsyncIterator[str]:
        pieces = [text[i : i + 12] for i in range(0, len(text), 12)]
        for number, piece in enumerate(pieces):
            if number == self.broken_after:
                return
            yield _event({"choices": [{"index": 0, "delta": {"content": piece}}]})
            if self.hold is not None and number == len(pieces) - 2:
                await self.hold.wait()
        yield _event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        yield _event({"choices": [], "usage": _USAGE})
        yield "data: [DONE]\n\n"


def _event(part: dict[str, Any]) -> str:
    return f"data: {json.dumps({**_COMMON, 'object': 'chat.completion.chunk', **part})}\n\n"


def _completion(text: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    return {**_COMMON, "object": "chat.completion", "choices": [choice], "usage": _USAGE}


@pytest.fixture
def chat() -> ChatServer:
    """Nobody listens yet."""
    return ChatServer()


@pytest.fixture
async def server(chat: ChatServer) -> AsyncIterator[ChatServer]:
    async with chat.listening():
        yield chat
