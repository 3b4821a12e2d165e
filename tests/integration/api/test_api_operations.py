"""Deletes, dead letters, the outbox, webhooks: what an operator relies on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import orjson
import pytest
from aiokafka.structs import RecordMetadata
from standardwebhooks.webhooks import Webhook

from penstock.api.outbox import Relay, enqueue
from penstock.api.signals import Signals
from penstock.client import Penstock
from penstock.common import events as e
from penstock.common.db import Database
from penstock.common.envelope import Envelope, Publication
from penstock.common.failures import TransientError
from penstock.common.topics import (
    DOCUMENT_CLEARED,
    DOCUMENT_INDEXED,
    DOCUMENT_PURGED,
    DOCUMENT_SUBMITTED,
    JOB_PROGRESSED,
)

pytestmark = pytest.mark.connected


async def purge(world: Any, name: str, job: str, *stores: str) -> None:
    for store in stores:
        body = e.DocumentPurged(**world.common(name, 2), store=store, at=datetime.now(UTC))
        await world.say(DOCUMENT_PURGED, name, job, body)


async def test_a_delete_overtakes_the_backlog_and_ends_with_a_receipt(
    world: Any, name: str
) -> None:
    """A null record, announced at the place where it lies; a receipt once every store is purged."""
    await world.index(name, f"sub-{name}")
    answer = await world.client.delete(f"/v1/documents/{name}")
    assert answer.status_code == 202
    job = answer.json()["id"]
    (null,) = await world.of_job("document.submitted.v1", job)
    assert null.value is None
    (announced,) = await world.of_job("removal.requested.v1", job)
    body = e.RemovalRequested.model_validate_json(announced.value)
    assert (body.document, body.position.partition, body.position.offset, body.position.at) == (
        name, null.partition, null.offset, null.timestamp,
    )  # fmt: skip
    assert body.submission == next(v.decode() for k, v in null.headers if k == "ce_id")
    # A store may be purged before the word of the removal itself arrives.
    await purge(world, name, job, "index", "blobs")
    await world.remove(name, job)
    await purge(world, name, job, "ingest", "quarantine")
    assert (await world.get(f"/v1/jobs/{job}"))["state"] != "succeeded"
    await purge(world, name, job, "drafts", "drafts")
    receipt = (await world.until(job, "succeeded"))["result"]
    assert (receipt["document_id"], receipt["version"]) == (name, 2)
    assert receipt["unretrievable_after_ms"] == 41
    assert set(receipt["stores"]) == {
        "index", "blobs", "ingest", "quarantine", "drafts", "answers", "topics", "dead_letters",
    }  # fmt: skip
    assert all(store["purged_at"] for name, store in receipt["stores"].items()
               if name not in ("topics", "dead_letters"))  # fmt: skip
    assert receipt["stores"]["topics"]["gone_by"] > datetime.now(UTC).isoformat()
    assert (await world.get(f"/v1/documents/{name}"))["state"] == "removed"
    late = e.DocumentIndexed(**world.common(name, 1), at=datetime.now(UTC), generation=1, chunks=1)
    await world.say(DOCUMENT_INDEXED, name, f"late-{name}", late)
    await world.until(f"late-{name}", "succeeded")
    assert (await world.get(f"/v1/documents/{name}"))["searchable_version"] is None


async def test_a_document_nobody_has_heard_of_yet_can_be_deleted(world: Any, name: str) -> None:
    """It may lie in a backlog that ingest has not come to."""
    answer = await world.client.delete(f"/v1/documents/{name}")
    assert answer.status_code == 202
    (null,) = await world.of_job("document.submitted.v1", answer.json()["id"])
    assert null.value is None


async def test_a_redrive_of_the_apis_own_dead_letter_touches_no_job(world: Any, name: str) -> None:
    """Its job did not fail by it."""
    topic = JOB_PROGRESSED.dead_letters("api")
    headers = [("ce_tenant", b"default"), ("ce_job", name.encode())]
    placed = await world.publisher.send(topic, name.encode(), b'{"stage": 1}', headers)
    letter = f"{topic}:{placed.partition}:{placed.offset}"
    answer = await world.client.post(f"/v1/dead-letters/{letter}/redrive")
    assert answer.status_code == 202
    assert "job_state" not in answer.json()
    assert (await world.client.get(f"/v1/jobs/{name}")).status_code == 404


async def dead_letter(world: Any, job: str, name: str, tenant: str = "default") -> str:
    """A record in guard's... embed's dead letters as `common` puts it there; its id."""
    headers = [
        ("ce_id", b"x"), ("ce_tenant", tenant.encode()), ("ce_job", job.encode()),
        ("dlq-topic", b"document.cleared.v1"), ("dlq-group", b"embed"), ("dlq-reason", b"invalid"),
        ("dlq-exception", b"no model"), ("dlq-attempts", b"3"), ("dlq-offset", b"5"),
        ("dlq-partition", b"0"), ("binary", b"\xff\xfe"),
    ]  # fmt: skip
    topic = DOCUMENT_CLEARED.dead_letters("embed")
    key = f"{tenant}/{name}".encode()
    placed = await world.publisher.send(topic, key, b'{"broken": \xff', headers)
    body = e.JobProgressed(
        document=name, stage=e.Stage.EMBED, state=e.ProgressState.DEAD_LETTERED,
        error=e.Failure(type="invalid", message="no model"),
        dead_letter=e.DeadLetter(topic=topic, partition=placed.partition, offset=placed.offset),
    )  # fmt: skip
    await world.progress(job, **body.model_dump())
    return f"{topic}:{placed.partition}:{placed.offset}"


async def test_a_dead_letter_fails_its_job_and_a_redrive_runs_it_again(
    world: Any, name: str
) -> None:
    """Listed, shown, driven again with its very bytes and one attempt more, then done."""
    job = await world.publish({"id": name, "text": "x"})
    letter = await dead_letter(world, job, name)
    failed = await world.until(job, "failed")
    assert failed["error"]["type"] == "dead_lettered"
    assert "embed" in failed["error"]["message"]
    assert (await world.get(f"/v1/documents/{name}"))["state"] == "failed"

    listed = {d["id"]: d for d in (await world.get("/v1/dead-letters"))["dead_letters"]}
    assert listed[letter]["document_id"] == name
    for topic, there in (
        ("document.cleared.v1", True),
        ("document.cleared.v1.embed.dlq", True),
        ("document.embedded.v1", False),
    ):
        some = (await world.get("/v1/dead-letters", params={"topic": topic}))["dead_letters"]
        assert (letter in {d["id"] for d in some}) is there
    unknown = await world.client.get("/v1/dead-letters", params={"topic": "no.such.topic"})
    assert unknown.status_code == 422
    shown = await world.get(f"/v1/dead-letters/{letter}")
    assert (shown["job"], shown["reason"], shown["decision"]) == (job, "invalid", None)

    redriven = await world.client.post(f"/v1/dead-letters/{letter}/redrive")
    assert redriven.status_code == 202
    assert (redriven.json()["job_state"], redriven.json()["attempt"]) == ("running", 2)
    (again,) = await world.of_job("document.cleared.v1.embed.retry", job)
    headers = dict(again.headers)
    assert again.value == b'{"broken": \xff'
    assert (headers["ce_attempt"], headers["binary"], headers["dlq-offset"]) == (
        b"2", b"\xff\xfe", b"5",
    )  # fmt: skip
    twice = await world.client.post(f"/v1/dead-letters/{letter}/redrive")
    assert twice.status_code == 409
    assert letter not in str(await world.get("/v1/dead-letters"))
    first_end = asyncio.Event()
    async with Penstock(world.url) as penstock:
        following = asyncio.create_task(follow(penstock, job, first_end))
        await first_end.wait()  # of the attempt before: not what is waited for
        await world.index(name, job)
        assert await following == ["failed", "succeeded"]
        assert ((await penstock.wait(job)).state, (await penstock.job(job)).attempt) == (
            "succeeded", 2,
        )  # fmt: skip
    assert await ends(world, job) == ["failed", "succeeded"]


async def follow(penstock: Penstock, job: str, seen: asyncio.Event) -> list[str]:
    """The states of the ends, as whoever follows the job is told them."""
    states = []
    async for event in penstock.job_events(job):
        if event.event == "end":
            states.append(event.data["state"])
            seen.set()
    return states


@pytest.mark.parametrize("without", ["dlq-omitted", "penstock-unreadable"])
async def test_a_dead_letter_without_its_record_is_not_driven_again(
    world: Any, name: str, without: str
) -> None:
    """Nothing would be sent; the operator is told where the record lies, and decides anew."""
    headers = [
        ("ce_id", b"x"), ("ce_tenant", b"default"), ("ce_job", name.encode()), (without, b"9"),
        ("dlq-topic", b"document.cleared.v1"), ("dlq-partition", b"3"), ("dlq-offset", b"17"),
    ]  # fmt: skip
    topic = DOCUMENT_CLEARED.dead_letters("embed")
    placed = await world.publisher.send(topic, None, b"", headers)
    letter = f"{topic}:{placed.partition}:{placed.offset}"
    refused = await world.client.post(f"/v1/dead-letters/{letter}/redrive")
    assert refused.status_code == 409
    said = refused.json()["detail"]
    assert "which lies at topic document.cleared.v1, partition 3, offset 17" in said
    assert (await world.client.get(f"/v1/jobs/{name}")).status_code == 404
    assert (await world.client.delete(f"/v1/dead-letters/{letter}")).status_code == 200


async def ends(world: Any, job: str) -> list[str]:
    text = (await world.client.get(f"/v1/jobs/{job}/events")).text
    blocks = [block for block in text.split("\n\n") if "event: end" in block]
    return [orjson.loads(block.split("data: ")[1])["state"] for block in blocks]


async def test_a_dropped_dead_letter_is_hidden_and_its_job_stays_failed(
    world: Any, name: str
) -> None:
    """Pages go on beyond what was decided."""
    job = await world.publish({"id": name, "text": "x"})
    letters = [await dead_letter(world, job, name) for _ in range(3)]
    await world.until(job, "failed")
    assert (await world.client.delete(f"/v1/dead-letters/{letters[1]}")).status_code == 200
    seen: list[str] = []
    params: dict[str, Any] = {"limit": 1}
    while True:
        page = await world.get("/v1/dead-letters", params=params)
        seen += [d["id"] for d in page["dead_letters"]]
        if page["next"] is None:
            break
        params["cursor"] = page["next"]
    assert [one for one in seen if one in letters] == [letters[0], letters[2]]
    assert (await world.get(f"/v1/jobs/{job}"))["state"] == "failed"
    assert (await world.client.get("/v1/dead-letters/nonsense:0:1")).status_code == 404


class Recorder:
    """Sends to Kafka, remembers what it sent, and breaks down after `survives` records."""

    def __init__(self, publisher: Any, survives: int) -> None:
        self.sent: list[tuple[str, str]] = []
        self._publisher = publisher
        self._survives = survives

    async def send(self, topic: str, key: Any, value: Any, raw: Any) -> RecordMetadata:
        placed = await self._publisher.send(topic, key, value, raw)
        self.sent.append((dict(raw)["ce_subject"].decode(), dict(raw)["ce_id"].decode()))
        if len(self.sent) > self._survives:
            raise TransientError("killed between publishing and marking")
        return placed


async def test_a_relay_that_dies_publishes_again_with_the_same_id(world: Any) -> None:
    """At least once, in the order of the requests for each document, values gone once sent."""
    tenant, document = f"t-{uuid4().hex[:6]}", "d"
    envelopes = [Envelope(id=f"{tenant}-{n}", tenant=tenant, job=tenant, subject=str(n))
                 for n in range(4)]  # fmt: skip
    database = world.resources.database
    async with database.pool.acquire() as connection, connection.transaction():
        # The running relay is kept out while the two of this test have their turn.
        await connection.execute("SELECT pg_advisory_xact_lock(hashtext('penstock api outbox'))")
        await enqueue(
            connection,
            *(Publication(DOCUMENT_SUBMITTED, f"{tenant}/{document}", envelope,
                          e.DocumentSubmitted(text="secret")) for envelope in envelopes),
        )  # fmt: skip
        rows = await connection.fetch("SELECT * FROM outbox WHERE tenant = $1", tenant)
        relay = Relay(OneConnection(connection), Recorder(world.publisher, 2), "c", Signals(""))
        with pytest.raises(TransientError):
            await relay.publish_some()
        survivor = Recorder(world.publisher, 100)
        relay = Relay(OneConnection(connection), survivor, "c", Signals(""))
        await relay.publish_some()
        left = await connection.fetch(
            "SELECT value, published_at FROM outbox WHERE tenant = $1", tenant
        )
    assert len(rows) == 4
    mine = [one for one in survivor.sent if one[1].startswith(tenant)]
    assert mine == [(str(n), f"{tenant}-{n}") for n in range(4)]
    assert all(row["value"] is None and row["published_at"] for row in left)
    records = await world.of_job("document.submitted.v1", tenant, 7)
    ids = [next(v.decode() for k, v in r.headers if k == "ce_id")[-1] for r in records]
    assert ids == ["0", "1", "2", "0", "1", "2", "3"]


class OneConnection(Database):
    """A database of one transaction, which a failure rolls back to where it stood."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @asynccontextmanager
    async def transaction(self, *, flush: bool = True) -> AsyncIterator[Any]:
        async with self._connection.transaction():
            yield self._connection


@pytest.fixture
async def receiver(world: Any) -> AsyncIterator[Any]:
    """A web server that fails once and then takes what comes."""
    got: asyncio.Queue[tuple[dict[str, str], bytes]] = asyncio.Queue()
    answers = [b"500 Oops", b"200 OK"]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers["content-length"]))
        await got.put((headers, body))
        status = answers.pop(0) if answers else b"200 OK"
        writer.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", world.hook_port)
    yield f"http://127.0.0.1:{world.hook_port}/hook", got
    server.close()


async def test_a_webhook_is_signed_and_tried_again(
    world: Any, name: str, receiver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asked to be called back is, with a signature that the standard library accepts."""
    monkeypatch.setattr("penstock.api.webhooks.RETRY_AFTER_S", (0, 0))
    url, got = receiver
    job = await world.publish({"id": name, "text": "x"}, callback_url=url)
    await world.index(name, job)
    first, second = [await asyncio.wait_for(got.get(), 10) for _ in range(2)]
    assert first[0]["webhook-id"] == second[0]["webhook-id"]
    secret = (await world.get("/v1/webhook-secret"))["webhook_secret"]
    body = Webhook(secret).verify(second[1], second[0])
    assert body["type"] == "job.succeeded"
    assert body["data"]["id"] == job
    assert body["data"]["result"]["documents"][0]["state"] == "searchable"
