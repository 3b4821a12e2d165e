"""The searcher on real servers: what people find over HTTP and over the topic, and what they do not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from aiokafka import AIOKafkaConsumer
from service_process import service_process

import penstock.retrieve
from penstock.common.db import Database
from penstock.common.envelope import Envelope, Publication, Record, document_key, read
from penstock.common.events import (
    Chunk,
    CollectionConfigured,
    DocumentEmbedded,
    DocumentRetired,
    ElementKind,
    Event,
    Position,
    ProgressState,
    QuestionPlanned,
    TextSpan,
)
from penstock.common.kafka import Publisher
from penstock.common.settings import ServiceSettings
from penstock.common.tokens import Identity, issue
from penstock.common.topics import (
    COLLECTION_CONFIGURED,
    JOB_PROGRESSED,
    PASSAGE_RETRIEVED,
    QUESTION_PLANNED,
    Topic,
)
from penstock.local.ports import free_port
from penstock.local.stack import Servers
from penstock.models import embedded_text, open_embedder
from penstock.retrieve import writing
from penstock.retrieve.indexer import Index

pytestmark = pytest.mark.connected

SECRET = "x" * 32
TENANT, STRANGER = f"search-{uuid4().hex[:8]}", f"stranger-{uuid4().hex[:8]}"
MIGRATIONS = Path(next(iter(penstock.retrieve.__path__))) / "migrations"
POSITION = Position(cluster="c", partition=0, offset=0, at=0)

DOCUMENTS: dict[str, dict[str, Any]] = {
    "manual/valve": {
        "title": "Valve manual",
        "texts": ["Close valve KLN-12 before you open the hatch.", "Grease it every 90 days."],
        "metadata": {"year": 2024, "kind": "manual", "tags": ["valve", "safety"]},
    },
    "report": {
        "title": "Annual report",
        "texts": ["The turbine made 40 GWh of electricity."],
        "metadata": {"year": 2025, "kind": "report", "tags": ["power"]},
    },
    "salaries": {
        "title": "Salaries",
        "texts": ["The turbine keeper is paid 5,000 a month."],
        "metadata": {"year": 2025, "kind": "list"},
        "access": ("board",),
    },
}


def common(document: str, version: int) -> dict[str, Any]:
    return {
        "document": document, "collection": "default", "submission": "s", "position": POSITION,
        "version": version,
    }  # fmt: skip


def record(tenant: str, body: Any) -> Record[Any]:
    envelope = Envelope(id=uuid4().hex, tenant=tenant, job="j")
    key = document_key(tenant, body.document)
    return Record("t", 0, 0, POSITION, key, envelope, body)


async def embedded(document: str, fields: dict[str, Any], version: int = 1) -> DocumentEmbedded:
    """The event that embed would publish; a document's chunks are two characters apart."""
    chunks, start = [], 0
    for ordinal, text in enumerate(fields["texts"]):
        span = TextSpan(start=start, end=start + len(text))
        chunks.append(Chunk(ordinal=ordinal, text=text, kind=ElementKind.PARAGRAPH, span=span))
        start = span.end + 2
    async with open_embedder() as embedder:
        vectors = await embedder.embed_documents(
            [embedded_text(fields["title"], (), text) for text in fields["texts"]]
        )
    return DocumentEmbedded(
        **common(document, version), generation=1, cut=f"c{version}", k=0, n=1,
        title=fields["title"], metadata=fields["metadata"], access=fields.get("access"),
        chunks=tuple(chunks), model="bge-small-en-v1.5", dim=384,
        vectors=vectors.astype("<f2").tobytes(),
    )  # fmt: skip


@pytest.fixture(scope="module")
async def index(servers: Servers) -> AsyncIterator[Index]:
    async with Database.open(
        servers.dsns["retrieve"], schema="retrieve", migrations=MIGRATIONS, setup=writing.setup
    ) as database:
        made = Index(database)
        bodies = [await embedded(document, fields) for document, fields in DOCUMENTS.items()]
        await made.write([record(TENANT, body) for body in bodies])
        await made.write([record(STRANGER, bodies[1])])
        yield made


@pytest.fixture(scope="module")
async def publisher(servers: Servers) -> AsyncIterator[Publisher]:
    made = Publisher("test", ServiceSettings(kafka=servers.kafka, service_secret=SECRET))
    await made.start()
    for tenant in (TENANT, STRANGER):
        envelope = Envelope(id=uuid4().hex, tenant=tenant, job="setup")
        key = f"{tenant}/default"
        await made.publish(
            Publication(COLLECTION_CONFIGURED, key, envelope, CollectionConfigured())
        )
    yield made
    await made.stop()


def searcher_process(servers: Servers, port: int, log: Path) -> AbstractAsyncContextManager[object]:
    settings = {
        "PENSTOCK_KAFKA": servers.kafka,
        "PENSTOCK_DATABASE": servers.dsns["retrieve"],
        "PENSTOCK_SERVICE_SECRET": SECRET,
        "PENSTOCK_PORT": str(port),
    }
    return service_process(log, "penstock.retrieve.app", "searcher", settings=settings)


@pytest.fixture(scope="module")
async def door(
    servers: Servers,
    index: Index,
    publisher: Publisher,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the running searcher, as soon as it is ready."""
    port = free_port()
    log = tmp_path_factory.mktemp("searcher") / "log"
    async with (
        searcher_process(servers, port, log),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        async with asyncio.timeout(60):
            while not await is_ready(client):
                await asyncio.sleep(0.05)
        yield client


async def is_ready(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/readyz")).status_code == 200
    except httpx.TransportError:
        return False


def bearer(tenant: str = TENANT, *groups: str) -> dict[str, str]:
    identity = Identity(tenant, "k", frozenset({"reader"}), groups)
    return {"authorization": f"Bearer {issue(identity, SECRET)}"}


async def search(door: httpx.AsyncClient, query: str, *groups: str, **more: Any) -> list[Any]:
    answer = await door.post(
        "/v1/search", json={"query": query, **more}, headers=bearer(TENANT, *groups)
    )
    assert answer.status_code == 200, answer.text
    passages: list[Any] = answer.json()["passages"]
    return passages


def documents(passages: list[Any]) -> list[str]:
    return [passage["document_id"] for passage in passages]


@pytest.mark.parametrize("mode", ["hybrid", "dense", "lexical"])
async def test_the_passage_that_answers_comes_first_in_every_mode(
    door: httpx.AsyncClient, mode: str
) -> None:
    first = (await search(door, "How much electricity did the turbine make?", mode=mode))[0]
    assert (first["document_id"], first["title"], first["version"]) == (
        "report", "Annual report", 1,
    )  # fmt: skip
    assert first["text"] == DOCUMENTS["report"]["texts"][0]
    assert first["span"] == {"start": 0, "end": len(first["text"])}
    assert first["metadata"] == DOCUMENTS["report"]["metadata"]
    assert first["rank"] == 1
    assert first["dense_rank"] == (None if mode == "lexical" else 1)
    assert first["lexical_rank"] == (None if mode == "dense" else 1)
    assert (first["dense_score"] is None) == (mode == "lexical")
    assert mode == "lexical" or 0.5 < first["dense_score"] < 1


async def test_a_part_number_is_found_by_its_exact_name(door: httpx.AsyncClient) -> None:
    assert documents(await search(door, "KLN-12", mode="lexical")) == ["manual/valve"]


async def test_every_readable_chunk_comes_when_more_are_asked_for_than_exist(
    door: httpx.AsyncClient,
) -> None:
    found = await search(door, "turbine", top_k=50)
    assert sorted(documents(found)) == ["manual/valve", "manual/valve", "report"]
    assert [passage["rank"] for passage in found] == [1, 2, 3]
    scores = [passage["score"] for passage in found]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("mode", ["hybrid", "dense", "lexical"])
async def test_only_the_groups_of_a_document_find_it(door: httpx.AsyncClient, mode: str) -> None:
    query = "What is the turbine keeper paid?"
    assert "salaries" not in documents(await search(door, query, mode=mode))
    assert "salaries" not in documents(await search(door, query, "staff", mode=mode))
    assert documents(await search(door, query, "staff", "board", mode=mode))[0] == "salaries"


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"kind": "manual"}, {"manual/valve"}),
        ({"kind": {"in": ["manual", "report"]}}, {"manual/valve", "report"}),
        ({"tags": "safety"}, {"manual/valve"}),
        ({"year": 2025}, {"report"}),
        ({"year": 2025.0}, {"report"}),
        ({"year": "2025"}, set()),
        ({"year": {"gte": 2024, "lt": 2025}}, {"manual/valve"}),
        ({"year": {"gt": "2000"}}, set()),
        ({"kind": {"gte": "n"}}, {"report"}),
        ({"kind": "manual", "year": {"gt": 2024}}, set()),
        ({"kind' OR 'a'='a": "x"}, set()),
        ({"kind": "x'; DROP TABLE chunk; --"}, set()),
    ],
)
async def test_a_filter_holds_in_every_mode(
    door: httpx.AsyncClient, condition: dict[str, Any], expected: set[str]
) -> None:
    for mode in ("hybrid", "dense"):
        found = await search(door, "turbine valve grease", filter=condition, mode=mode)
        assert set(documents(found)) == expected
    lexical = await search(door, "turbine valve grease", filter=condition, mode="lexical")
    assert set(documents(lexical)) == expected


async def test_a_tenant_finds_nothing_of_another(door: httpx.AsyncClient) -> None:
    answer = await door.post(
        "/v1/search", json={"query": "KLN-12 valve", "top_k": 50}, headers=bearer(STRANGER)
    )
    assert documents(answer.json()["passages"]) == ["report"]
    text = await door.get("/v1/documents/manual/valve/text", headers=bearer(STRANGER))
    assert text.status_code == 404


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({"query": ""}, "query"),
        ({"query": "  "}, "query"),
        ({"query": "x" * 4001}, "query"),
        ({"query": "a\0b"}, "query"),
        ({"query": "x", "top_k": 51}, "top_k"),
        ({"query": "x", "mode": "magic"}, "mode"),
        ({"query": "x", "filter": {"year": {"near": 3}}}, "filter.year"),
        ({"query": "x", "filter": {"year": {"gt": None}}}, "filter.year.gt"),
        ({"query": "x", "fliter": {}}, "fliter"),
        ({}, "query"),
    ],
)
async def test_a_bad_request_is_told_which_field_is_wrong(
    door: httpx.AsyncClient, body: dict[str, Any], names: str
) -> None:
    answer = await door.post("/v1/search", json=body, headers=bearer())
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert names in answer.json()["detail"]


async def test_an_unknown_collection_is_named(door: httpx.AsyncClient) -> None:
    answer = await door.post(
        "/v1/search", json={"query": "x", "collection": "nope"}, headers=bearer()
    )
    assert answer.status_code == 404
    assert "nope" in answer.json()["detail"]


async def test_nobody_searches_without_a_service_token(door: httpx.AsyncClient) -> None:
    assert (await door.post("/v1/search", json={"query": "x"})).status_code == 401
    assert (await door.get("/v1/documents/report/text")).status_code == 401


async def test_a_citation_opens_at_its_span_in_the_documents_text(door: httpx.AsyncClient) -> None:
    answer = await door.get("/v1/documents/manual/valve/text", headers=bearer())
    body = answer.json()
    assert (body["document_id"], body["version"]) == ("manual/valve", 1)
    for passage in await search(door, "grease valve", filter={"kind": "manual"}):
        span = passage["span"]
        assert body["text"][span["start"] : span["end"]] == passage["text"]
    hidden = await door.get("/v1/documents/salaries/text", headers=bearer())
    assert hidden.status_code == 404
    shown = await door.get("/v1/documents/salaries/text", headers=bearer(TENANT, "board"))
    assert "5,000" in shown.json()["text"]


async def test_a_removed_document_is_not_found_by_the_next_search(
    door: httpx.AsyncClient, index: Index
) -> None:
    fields = {"title": "Gone", "texts": ["Zebra crossings are striped."], "metadata": {}}
    await index.write([record(TENANT, await embedded("gone", fields))])
    assert documents(await search(door, "zebra"))[0] == "gone"
    retired = DocumentRetired(**common("gone", 2), at=datetime.now(UTC))
    await index.retire([record(TENANT, retired)])
    for mode in ("hybrid", "dense", "lexical"):
        assert "gone" not in documents(await search(door, "zebra", mode=mode))
    text = await door.get("/v1/documents/gone/text", headers=bearer())
    assert text.status_code == 404


async def heard(servers: Servers, topic: Topic[Any], job: str) -> Any:
    """The first body about a job on a topic."""
    consumer = AIOKafkaConsumer(
        topic.name, bootstrap_servers=servers.kafka, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        async with asyncio.timeout(60):
            async for raw in consumer:
                found: Record[Event] = read(raw, topic, cluster="c", default_tenant="default")
                if found.envelope.job == job:
                    return found.value
    finally:
        await consumer.stop()


def planned(job: str, question: QuestionPlanned, deadline: datetime | None = None) -> Any:
    envelope = Envelope(id=uuid4().hex, tenant=TENANT, job=job, deadline=deadline)
    return Publication(QUESTION_PLANNED, document_key(TENANT, job), envelope, question)


async def test_a_planned_question_comes_back_with_passages_and_reports_progress(
    door: httpx.AsyncClient, publisher: Publisher, servers: Servers
) -> None:
    job = f"q-{uuid4().hex[:8]}"
    question = QuestionPlanned(
        question="How much did the turbine make, and how often is the valve greased?",
        searches=("How much electricity did the turbine make?", "How often is the valve greased?"),
        groups=("staff",), top_k=2, timings_ms={"guard": 1.5, "search": 2.0}, round=1,
    )  # fmt: skip
    await publisher.publish(planned(job, question))
    event = await heard(servers, PASSAGE_RETRIEVED, job)
    texts = [passage.text for passage in event.passages]
    assert {DOCUMENTS["report"]["texts"][0], DOCUMENTS["manual/valve"]["texts"][1]} <= set(
        texts[:3]
    )
    assert len(texts) == 3, "more than top_k for the answerer, nothing of the board's"
    assert (event.question, event.top_k, event.round) == (question.question, 2, 1)
    assert event.timings_ms["guard"] == 1.5
    assert event.timings_ms["search"] > 2.0
    assert event.timings_ms["embed"] > 0
    assert (await heard(servers, JOB_PROGRESSED, job)).state is ProgressState.DONE


async def test_a_question_past_its_deadline_is_not_searched_but_ends(
    door: httpx.AsyncClient, publisher: Publisher, servers: Servers
) -> None:
    job = f"q-{uuid4().hex[:8]}"
    late = datetime.now(UTC) - timedelta(seconds=1)
    question = QuestionPlanned(question="turbine", searches=("turbine",))
    await publisher.publish(planned(job, question, late))
    progress = await heard(servers, JOB_PROGRESSED, job)
    assert progress.state is ProgressState.FAILED
    assert progress.error.type == "expired"
