"""What an operator sees: one trace through every log, metrics with lag, doors that tell the truth."""

import asyncio
import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest

pytestmark = pytest.mark.connected

SERVICES = (
    "api", "ingest", "guard-documents", "guard-dialogue", "embed", "indexer", "searcher",
    "answerer",
)  # fmt: skip


def lines(stack: Any, process: str, trace: str) -> list[dict[str, Any]]:
    log = (stack.folder / "logs" / f"{process}.log").read_text()
    return [json.loads(line) for line in log.splitlines() if trace in line]


async def test_one_trace_leads_from_the_request_through_every_stage(
    stack: Any, until: Callable[..., Any]
) -> None:
    trace = uuid4().hex
    headers = {"traceparent": f"00-{trace}-{uuid4().hex[:16]}-01", "Prefer": "wait=30"}
    name = f"traced-{trace[:6]}"
    documents = [{"id": name, "text": f"The {name} buoy was laid in 1987."}]
    async with httpx.AsyncClient(base_url=stack.api, headers=headers, timeout=60) as http:
        published = await http.post("/v1/documents", json={"documents": documents})
        asked = await http.post("/v1/questions", json={"question": f"When was the {name} laid?"})
    assert trace in published.headers["traceparent"]
    assert published.json()["state"] == asked.json()["state"] == "succeeded"

    async def silent() -> list[str]:
        return [s for s in SERVICES if not await asyncio.to_thread(lines, stack, s, trace)]

    async def all_spoke() -> bool:
        return not await silent()

    await until(all_spoke, 20)
    for service in SERVICES:
        for line in lines(stack, service, trace):
            assert line.get("tenant", "default") == "default", line


async def test_every_process_tells_how_it_is(stack: Any) -> None:
    async with httpx.AsyncClient() as http:
        for service in SERVICES:
            door = f"http://127.0.0.1:{stack.state['processes'][service]['port']}"
            assert (await http.get(f"{door}/healthz")).status_code == 200, service
            assert (await http.get(f"{door}/readyz")).status_code == 200, service
            metrics = (await http.get(f"{door}/metrics")).text
            assert "penstock_records_total" in metrics, service
            assert "penstock_consumer_lag" in metrics, service


async def test_a_door_says_what_is_away(stack: Any, until: Callable[..., Any]) -> None:
    """While Postgres does not answer, its users are alive but not ready, and come back."""
    door = f"http://127.0.0.1:{stack.state['processes']['indexer']['port']}"
    async with httpx.AsyncClient(timeout=10) as http:

        async def status(wanted: int) -> str | None:
            ready = await http.get(f"{door}/readyz")
            return ready.text if ready.status_code == wanted else None

        with stack.stopped("postgres"):
            said = await until(lambda: status(503), 60)
            assert "ostgres" in said
            assert (await http.get(f"{door}/healthz")).status_code == 200
        await until(lambda: status(200), 60)
