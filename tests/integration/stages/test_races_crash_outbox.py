"""The API dies between a request's transaction and the log: what was promised is published."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx
import pytest

from penstock.api.app import Api
from penstock.api.settings import ApiSettings
from penstock.common.topics import DOCUMENT_SUBMITTED, REMOVAL_REQUESTED
from penstock.local.ports import free_port

pytestmark = pytest.mark.connected


def header(record: Any, name: str) -> str:
    return str(dict(record.headers)[name].decode())


@pytest.mark.parametrize("sent", [False, True], ids=["not published", "not marked"])
async def test_what_the_api_accepted_is_published_by_its_next_process(
    sent: bool, world: Any, log: Any, doom: Any, running: Any
) -> None:
    """A document and a delete, in their order, each under the id that it was accepted with."""
    settings = world.settings(ApiSettings, "api", open_on_loopback=True, port=free_port())
    name = f"doomed-{uuid4().hex[:6]}"

    @asynccontextmanager
    async def api() -> AsyncIterator[httpx.AsyncClient]:
        service = Api(settings).service()
        door = httpx.ASGITransport(service.app, client=("127.0.0.1", 1))
        async with (
            running(service),
            httpx.AsyncClient(transport=door, base_url="http://127.0.0.1") as c,
        ):
            yield c

    doom.comes([(name, DOCUMENT_SUBMITTED)], sent=sent)
    async with api() as client:
        text = {"documents": [{"id": name, "text": "It pumps."}]}
        accepted = await client.post("/v1/documents", json=text)
        assert accepted.status_code == 202, accepted.text
        await doom.everywhere()
        deleted = await client.delete(f"/v1/documents/{name}")
        assert deleted.status_code == 202, deleted.text
    await log.read()
    assert len(log.about(name)) == int(sent)

    doom.passes()
    async with api():
        await log.until(lambda: log.about(name, REMOVAL_REQUESTED))
    await log.read()
    records = [r for r in log.records if (r.key or b"").endswith(name.encode())]
    submitted = [r for r in records if r.topic == DOCUMENT_SUBMITTED.name]
    jobs = [answer.json()["id"] for answer in (accepted, deleted)]
    expected = [jobs[0]] * (1 + int(sent)) + [jobs[1]]
    assert [header(r, "ce_job") for r in submitted] == expected
    assert [r.value is None for r in submitted] == [job == jobs[1] for job in expected]
    assert len({header(r, "ce_id") for r in submitted}) == 2
    [announced] = log.bodies(REMOVAL_REQUESTED, f"default/{name}")
    assert announced.submission == header(submitted[-1], "ce_id")
    assert announced.position.offset == submitted[-1].offset
