"""The services behind the API are away: it says which, and when to come back, and stays up itself."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import pytest

pytestmark = pytest.mark.connected

ITEM = f"/v1/quarantine/{UUID(int=1)}"
CALLS = [
    ("searcher", "POST", "/v1/search", {"query": "q"}),
    ("searcher", "GET", "/v1/documents/a/text", None),
    ("guard", "GET", "/v1/quarantine", None),
    ("guard", "GET", ITEM, None),
    ("guard", "POST", f"{ITEM}/decision", {"decision": "release"}),
]


@asynccontextmanager
async def hanging(world: Any) -> AsyncIterator[None]:
    """Where the services should be, somebody takes every connection and never says a word."""
    quiet = asyncio.Event()

    async def listen(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await quiet.wait()
        writer.close()

    urls = {world.resources.settings.searcher_url, world.resources.settings.guard_url}
    (port,) = {urlsplit(url).port for url in urls}
    server = await asyncio.start_server(listen, "127.0.0.1", port)
    patience, world.resources.http.timeout = world.resources.http.timeout, httpx.Timeout(0.5)
    try:
        yield
    finally:
        world.resources.http.timeout = patience
        quiet.set()
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize(("service", "method", "path", "body"), CALLS)
async def test_a_service_that_is_away_is_named(
    world: Any, service: str, method: str, path: str, body: Any
) -> None:
    """Nobody listens, or nobody answers: 503, which service, and when to come back."""
    refused = await world.client.request(method, path, json=body)
    async with hanging(world):
        silent = await world.client.request(method, path, json=body)
    for answer in (refused, silent):
        assert answer.status_code == 503, answer.text
        assert answer.json()["type"].endswith("/unavailable")
        assert f"{service} does not answer" in answer.json()["detail"]
        assert answer.headers["retry-after"] == "1"
    assert (await world.client.get("/readyz")).status_code == 200
