"""A model that answers at once, behind the real protocol: python instant.py PORT

Its answer is the beginning of the first passage that it is shown, cited. Streamed, in three events.
"""

import json
import re
import sys
from collections.abc import Iterator

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

LONGEST = 160
"""Characters of the answer."""

_FIRST_PASSAGE = re.compile(r'<(passage-\w+) number="1"[^\n]*\n(.*?)\n</\1>', re.DOTALL)


def answer(prompt: str) -> str:
    """The JSON that a model is asked for."""
    shown = _FIRST_PASSAGE.search(prompt)
    words = " ".join(shown[2].split())[:LONGEST] if shown else ""
    said = [{"text": words.rpartition(" ")[0] or words, "passages": [1]}] if words else []
    return json.dumps({"sentences": said})


def _events(text: str) -> Iterator[bytes]:
    parts = (
        {"choices": [{"index": 0, "delta": {"content": text}}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        {
            "choices": [],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        },
    )
    for part in parts:
        whole = {
            "id": "instant",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "instant",
        }
        yield b"data: " + orjson.dumps(whole | part) + b"\n\n"
    yield b"data: [DONE]\n\n"


async def complete(request: Request) -> Response:
    asked = orjson.loads(await request.body())
    text = answer(asked["messages"][-1]["content"])
    return StreamingResponse(iter([b"".join(_events(text))]), media_type="text/event-stream")


app = Starlette(routes=[Route("/v1/chat/completions", complete, methods=["POST"])])


if __name__ == "__main__":
    uvicorn.run(
        app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", timeout_keep_alive=600
    )
