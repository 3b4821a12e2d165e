"""Jobs over HTTP, against real servers: what is published is followed to its end."""

from typing import Any

import pytest

from penstock.common import events as e
from penstock.common.topics import (
    DOCUMENT_FAILED,
    DOCUMENT_QUARANTINED,
    JOB_CANCELLED,
)

pytestmark = pytest.mark.connected


async def test_a_published_document_is_followed_to_searchable(world: Any, name: str) -> None:
    """From POST to a succeeded job, with progress by stage and the place in the log."""
    answer = await world.client.post(
        "/v1/documents", json={"documents": [{"id": name, "text": "hello", "title": "Hi"}]}
    )
    assert answer.status_code == 202
    job = answer.json()["id"]
    assert answer.headers["location"] == f"/v1/jobs/{job}"
    assert answer.json()["state"] == "accepted"

    (record,) = await world.of_job("document.submitted.v1", job)
    assert record.key.decode() == f"default/{name}"
    assert b'"text":"hello"' in record.value

    await world.progress(
        job, e.Stage.INGEST, document=name, version=1, state=e.ProgressState.TAKEN_IN,
        position=e.Position(cluster="c", partition=3, offset=9, at=1),
    )  # fmt: skip
    for k in (0, 1, 1):  # a redelivery counts once
        await world.progress(job, e.Stage.INGEST, document=name, version=1, k=k, n=2)
    await world.progress(job, e.Stage.GUARD, document=name, version=1, k=0, n=2)
    await world.until(job, "running")
    await world.index(name, job)
    done = await world.until(job, "succeeded")
    assert done["progress"]["done"] == done["progress"]["total"] == 8
    assert done["result"]["documents"] == [
        {"document_id": name, "version": 1, "state": "searchable", "error": None}
    ]
    document = await world.get(f"/v1/documents/{name}")
    assert document["state"] == "searchable"
    assert document["searchable_version"] == 1
    assert document["source"]["topic"] == "document.submitted.v1"


async def test_a_job_of_three_names_the_document_that_failed(world: Any, name: str) -> None:
    """It ends when each has ended; quarantined counts as done; the result lists all."""
    good, held, bad = (f"{name}-{n}" for n in "abc")
    job = await world.publish(*({"id": n, "text": "x"} for n in (good, held, bad)))
    common = {"collection": "default", "submission": "s", "version": 1}
    position = e.Position(cluster="c", partition=0, offset=1, at=1)
    await world.say(
        DOCUMENT_FAILED, bad, job,
        e.DocumentFailed(document=bad, position=position, **common,
                         error=e.Failure(type="encrypted", message="the PDF has a password")),
    )  # fmt: skip
    await world.index(good, job)
    await world.until(job, "running")
    await world.say(
        DOCUMENT_QUARANTINED, held, job,
        e.DocumentQuarantined(document=held, position=position, **common, findings=(), n=1),
    )  # fmt: skip
    done = await world.until(job, "failed")
    assert done["error"] == {"type": "encrypted", "message": "the PDF has a password"}
    states = {d["document_id"]: d["state"] for d in done["result"]["documents"]}
    assert states == {good: "searchable", held: "quarantined", bad: "failed"}
    assert (await world.get(f"/v1/documents/{held}"))["state"] == "quarantined"


async def test_a_document_published_straight_to_kafka_has_a_job_too(world: Any, name: str) -> None:
    """A job nobody announced appears with the first word about it."""
    await world.progress(
        f"job-{name}", e.Stage.INGEST, document=name, version=1, state=e.ProgressState.TAKEN_IN
    )
    await world.until(f"job-{name}", "running")
    await world.index(name, f"job-{name}")
    done = await world.until(f"job-{name}", "succeeded")
    assert done["kind"] == "document"


async def test_the_same_idempotency_key_makes_one_job(world: Any, name: str) -> None:
    """A client that repeats a request after a broken connection does not publish twice."""
    body = {"documents": [{"id": name, "text": "once"}]}
    headers = {"Idempotency-Key": f"key-{name}"}
    first = await world.client.post("/v1/documents", json=body, headers=headers)
    second = await world.client.post("/v1/documents", json=body, headers=headers)
    assert first.json()["id"] == second.json()["id"]
    other = await world.client.post(
        "/v1/documents", json={"documents": [{"id": name, "text": "two"}]}, headers=headers
    )
    assert other.status_code == 422
    assert other.json()["type"].endswith("/idempotency_key_reused")
    assert len(await world.of_job("document.submitted.v1", first.json()["id"])) == 1


async def test_a_cancelled_job_is_announced_and_stays_cancelled(world: Any, name: str) -> None:
    """Every stage hears of it, and a late success changes the document, not the job."""
    job = await world.publish({"id": name, "text": "x"})
    cancelled = await world.client.post(f"/v1/jobs/{job}/cancel")
    assert cancelled.json()["state"] == "cancelled"
    (record,) = await world.of_job(JOB_CANCELLED.name, job)
    assert record.key.decode() == f"default/{job}"
    await world.index(name, job)
    assert (await world.get(f"/v1/jobs/{job}"))["state"] == "cancelled"


async def test_pages_go_through_all_jobs_once(world: Any, name: str) -> None:
    """A cursor neither skips nor repeats."""
    made = {await world.publish({"id": f"{name}-{n}", "text": "x"}) for n in range(5)}
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = await world.get("/v1/jobs", params={"limit": 2} | cursor)
        seen += [job["id"] for job in page["jobs"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert len(seen) == len(set(seen))
    assert made <= set(seen)


async def test_a_large_text_travels_as_a_blob(world: Any, name: str) -> None:
    """What is too long for an event goes by reference; what is over the limit is refused."""
    job = await world.publish({"id": name, "text": "é" * 100_000})
    (record,) = await world.of_job("document.submitted.v1", job)
    body = e.DocumentSubmitted.model_validate_json(record.value)
    assert body.text is None
    assert body.blob is not None
    assert await world.resources.blobs.read(body.blob) == ("é" * 100_000).encode()
    over = await world.client.post("/v1/documents", json={"documents": [{"text": "x" * 1_000_100}]})
    assert over.status_code == 413


async def test_files_are_streamed_and_too_long_ones_leave_nothing(world: Any, name: str) -> None:
    """Multipart: the id is the file name, the fields beside hold for every file."""
    files = [("files", (f"{name}.md", b"# One\n" * 50_000)), ("files", (f"{name}.txt", b"two"))]
    answer = await world.client.post(
        "/v1/documents", files=files, data={"metadata": '{"team": "press"}', "access": '["hr"]'}
    )
    assert answer.status_code == 202, answer.text
    records = await world.of_job("document.submitted.v1", answer.json()["id"], 2)
    bodies = {r.key.decode(): e.DocumentSubmitted.model_validate_json(r.value) for r in records}
    body = bodies[f"default/{name}.md"]
    assert (body.metadata, body.access, body.filename) == (
        {"team": "press"}, ("hr",), f"{name}.md",
    )  # fmt: skip
    assert body.blob is not None
    assert len(await world.resources.blobs.read(body.blob)) == 300_000
    before = {p for p in world.resources.settings.blobs.rglob("*") if p.is_file()}
    over = await world.client.post(
        "/v1/documents", files=[files[0], ("files", ("big.txt", b"x" * 1_000_001))]
    )
    assert over.status_code == 413
    assert {p for p in world.resources.settings.blobs.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"documents": []}, 422, "documents"),
        ({"documents": [{"id": "a"}]}, 422, "text and uri"),
        ({"documents": [{"text": "a", "txet": "b"}]}, 422, "documents.0.txet"),
        ({"documents": [{"id": "a", "text": "a"}, {"id": "a", "text": "b"}]}, 422, "twice"),
        ({"documents": [{"text": "a"}], "collection": "no"}, 422, "POST /v1/collections"),
        ({"documents": [{"text": "a"}], "callback_url": "http://evil.example"}, 422, "must lie"),
    ],
)
async def test_bad_requests_name_the_field(
    world: Any, body: dict[str, Any], status: int, says: str
) -> None:
    """A problem says what is wrong where, and what to do."""
    answer = await world.client.post("/v1/documents", json=body)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert says in answer.json()["detail"]
