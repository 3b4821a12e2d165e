"""The embed process on a real broker: chunks in, vectors out, another model's documents put aside."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord
from service_process import service_process

from penstock.common.envelope import Envelope, Publication, document_key, read
from penstock.common.events import (
    Chunk,
    CollectionConfigured,
    DocumentCleared,
    ElementKind,
    Position,
    ProgressState,
    Stage,
    TextSpan,
)
from penstock.common.kafka import Publisher
from penstock.common.settings import ServiceSettings
from penstock.common.topics import (
    COLLECTION_CONFIGURED,
    DOCUMENT_CLEARED,
    DOCUMENT_EMBEDDED,
    JOB_PROGRESSED,
)
from penstock.embed.vectors import from_wire
from penstock.local.stack import Servers
from penstock.models import DEFAULT_MODEL, embedded_text, open_embedder

pytestmark = pytest.mark.connected

SECRET = "x" * 32
FAST_MODEL = "all-minilm-l6-v2"
TENANT = "embed-tests"
TEXTS = ("Water falls through the penstock.", "The turbine turns.", "Power flows to the grid.")


def embed_process(
    servers: Servers, log: Path, model: str = DEFAULT_MODEL
) -> AbstractAsyncContextManager[object]:
    settings = {
        "PENSTOCK_KAFKA": servers.kafka,
        "PENSTOCK_SERVICE_SECRET": SECRET,
        "PENSTOCK_EMBED_MODEL": model,
    }
    return service_process(log, "penstock.embed.app", settings=settings)


@pytest.fixture
async def publisher(servers: Servers) -> AsyncIterator[Publisher]:
    made = Publisher("test", ServiceSettings(kafka=servers.kafka, service_secret=SECRET))
    await made.start()
    yield made
    await made.stop()


def cleared(
    document: str, collection: str, *, k: int = 0, n: int = 1
) -> Publication[DocumentCleared]:
    chunks = tuple(
        Chunk(
            ordinal=i, text=text, kind=ElementKind.PARAGRAPH,
            span=TextSpan(start=0, end=len(text)), heading_path=("Parts",),
        )
        for i, text in enumerate(TEXTS)
    )  # fmt: skip
    body = DocumentCleared(
        document=document, collection=collection, submission="s", version=1, generation=1,
        position=Position(cluster="c", partition=0, offset=0, at=0), cut="cut", k=k, n=n,
        title="Hydropower", chunks=chunks,
    )  # fmt: skip
    envelope = Envelope(id=uuid4().hex, tenant=TENANT, job=f"job-{document}")
    return Publication(DOCUMENT_CLEARED, document_key(TENANT, document), envelope, body)


def configured(name: str, model: str) -> Publication[CollectionConfigured]:
    envelope = Envelope(id=uuid4().hex, tenant=TENANT, job="setup")
    body = CollectionConfigured(name=name, model=model)
    return Publication(COLLECTION_CONFIGURED, f"{TENANT}/{name}", envelope, body)


async def collect(servers: Servers, topic: str, keys: set[str]) -> dict[str, ConsumerRecord]:
    """The first record of each key, as soon as there is one for all of them."""
    found: dict[str, ConsumerRecord] = {}
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=servers.kafka, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        async with asyncio.timeout(60):
            async for raw in consumer:
                key = (raw.key or b"").decode()
                if key in keys:
                    found.setdefault(key, raw)
                if found.keys() == keys:
                    break
    finally:
        await consumer.stop()
    return found


async def test_documents_leave_with_the_vectors_of_their_chunks(
    servers: Servers, publisher: Publisher, tmp_path: Path
) -> None:
    names = [f"d-{uuid4().hex[:8]}" for _ in range(40)]
    await publisher.publish(configured("default", DEFAULT_MODEL))
    await publisher.publish(*(cleared(name, "default") for name in names))
    async with embed_process(servers, tmp_path / "embed.log"):
        embedded = await collect(
            servers, DOCUMENT_EMBEDDED.name, {document_key(TENANT, name) for name in names}
        )
        progress = await collect(servers, JOB_PROGRESSED.name, {f"job-{name}" for name in names})
    async with open_embedder() as embedder:
        expected = await embedder.embed_documents(
            [embedded_text("Hydropower", ("Parts",), text) for text in TEXTS]
        )
    for raw in embedded.values():
        body = read(raw, DOCUMENT_EMBEDDED, cluster="c", default_tenant="default").value
        assert (body.model, body.dim) == (DEFAULT_MODEL, 384)
        vectors = from_wire(body.vectors, body.dim).astype(np.float32)
        # An int8 graph rounds by the range of the whole batch.
        assert (vectors * expected).sum(axis=1) == pytest.approx(1.0, abs=0.02)
    for raw in progress.values():
        word = read(raw, JOB_PROGRESSED, cluster="c", default_tenant="default").value
        assert (word.stage, word.state) == (Stage.EMBED, ProgressState.DONE)


async def test_another_models_document_is_put_aside_and_its_neighbour_goes_on(
    servers: Servers, publisher: Publisher, tmp_path: Path
) -> None:
    own, other = f"d-{uuid4().hex[:8]}", f"d-{uuid4().hex[:8]}"
    await publisher.publish(configured("default", DEFAULT_MODEL), configured("small", FAST_MODEL))
    await publisher.publish(cleared(own, "default"), cleared(other, "small"))
    async with embed_process(servers, tmp_path / "embed.log"):
        await collect(servers, DOCUMENT_EMBEDDED.name, {document_key(TENANT, own)})
        letters = await collect(
            servers, DOCUMENT_CLEARED.dead_letters("embed"), {document_key(TENANT, other)}
        )
        words = await collect(servers, JOB_PROGRESSED.name, {f"job-{other}"})
    (letter,) = letters.values()
    told = b" ".join(value for _, value in letter.headers).decode()
    assert f"PENSTOCK_EMBED_MODEL={FAST_MODEL}" in told
    (raw,) = words.values()
    word = read(raw, JOB_PROGRESSED, cluster="c", default_tenant="default").value
    assert word.state is ProgressState.DEAD_LETTERED
    assert word.error is not None
    assert word.error.type == "model_mismatch"


async def test_a_collection_can_be_embedded_with_the_fast_model(
    servers: Servers, publisher: Publisher, tmp_path: Path, fast_model: None
) -> None:
    name = f"d-{uuid4().hex[:8]}"
    await publisher.publish(configured("fast", FAST_MODEL), cleared(name, "fast"))
    async with embed_process(servers, tmp_path / "embed.log", FAST_MODEL):
        embedded = await collect(servers, DOCUMENT_EMBEDDED.name, {document_key(TENANT, name)})
    (raw,) = embedded.values()
    body = read(raw, DOCUMENT_EMBEDDED, cluster="c", default_tenant="default").value
    assert (body.model, body.dim) == (FAST_MODEL, 384)
    texts = [embedded_text("Hydropower", ("Parts",), text) for text in TEXTS]
    vectors = from_wire(body.vectors, body.dim).astype(np.float32)
    async with open_embedder(FAST_MODEL) as fast, open_embedder() as default:
        same = (vectors * await fast.embed_documents(texts)).sum(axis=1)
        other = (vectors * await default.embed_documents(texts)).sum(axis=1)
    assert same == pytest.approx(1.0, abs=0.02)
    assert abs(other).max() < 0.5, "these are vectors of the model that was asked for"
