"""The answerer as its own process on real servers: a question in, cited sentences out."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer
from pydantic import SecretStr
from service_process import service_process

from penstock.common.envelope import Envelope, Publication, document_key, read
from penstock.common.events import (
    AnswerDrafted,
    CollectionConfigured,
    Event,
    Passage,
    PassageRetrieved,
    QuestionAdmitted,
    QuestionPlanned,
    TextSpan,
)
from penstock.common.kafka import Publisher
from penstock.common.settings import ServiceSettings
from penstock.common.topics import (
    ANSWER_DRAFTED,
    COLLECTION_CONFIGURED,
    PASSAGE_RETRIEVED,
    QUESTION_ADMITTED,
    QUESTION_PLANNED,
    Topic,
)
from penstock.local.stack import Servers
from penstock.models import embedded_text, open_embedder

pytestmark = pytest.mark.connected

SECRET = "g" * 32
TENANT = f"generate-{uuid4().hex[:8]}"
TEXT = "Article: FX-8 | Product: Sluice motor | Price EUR: 2310\nArticle: FX-9 | Product: Sluice gate | Price EUR: 5120"
QUESTION = "How much does the FX-9 sluice gate cost?"


@pytest.fixture(scope="module")
async def publisher(servers: Servers) -> AsyncIterator[Publisher]:
    settings = ServiceSettings(kafka=servers.kafka, service_secret=SecretStr(SECRET))
    publisher = Publisher("tests", settings)
    await publisher.start()
    yield publisher
    await publisher.stop()


@pytest.fixture(scope="module")
async def answerer(
    servers: Servers, publisher: Publisher, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[None]:
    configured = CollectionConfigured()
    await publisher.publish(
        Publication(
            COLLECTION_CONFIGURED, f"{TENANT}/default",
            Envelope(id=uuid4().hex, tenant=TENANT, job="configure"), configured,
        )
    )  # fmt: skip
    settings = {
        "PENSTOCK_KAFKA": servers.kafka,
        "PENSTOCK_DATABASE": servers.dsns["generate"],
        "PENSTOCK_SERVICE_SECRET": SECRET,
    }
    log = tmp_path_factory.mktemp("answerer") / "log"
    async with service_process(log, "penstock.generate.app", "answerer", settings=settings):
        yield


async def received(servers: Servers, topic: Topic[Any], job: str, last: Any) -> list[Any]:
    """The bodies of this job on a topic, in order, up to the first that `last` accepts."""
    consumer = AIOKafkaConsumer(
        topic.name, bootstrap_servers=servers.kafka, auto_offset_reset="earliest"
    )
    await consumer.start()
    found: list[Event] = []
    try:
        async with asyncio.timeout(60):
            async for raw in consumer:
                record = read(raw, topic, cluster="c", default_tenant="default")
                if record.envelope.job == job:
                    found.append(record.value)
                    if last(record.value):
                        break
    finally:
        await consumer.stop()
    return found


def event(topic: Topic[Any], job: str, body: Event) -> Publication[Any]:
    return Publication(
        topic, document_key(TENANT, job), Envelope(id=uuid4().hex, tenant=TENANT, job=job), body
    )


async def evidence() -> Passage:
    """A table's chunk, as near to the question as the real model says."""
    async with open_embedder() as embedder:
        (vector,) = await embedder.embed_documents([embedded_text("Price list", (), TEXT)])
        near = float(vector @ await embedder.embed_query(QUESTION))
    return Passage(
        chunk_id="c", document_id="prices", version=1, title="Price list", text=TEXT, score=1.0,
        rank=1, span=TextSpan(start=200, end=200 + len(TEXT)), dense_score=near,
    )  # fmt: skip


async def test_a_question_is_planned(
    servers: Servers, publisher: Publisher, answerer: None
) -> None:
    """`direct` hands the question to the searcher as it is."""
    job = uuid4().hex
    await publisher.publish(event(QUESTION_ADMITTED, job, QuestionAdmitted(question=QUESTION)))
    planned: list[QuestionPlanned] = await received(servers, QUESTION_PLANNED, job, lambda _: True)
    assert planned[0].searches == (QUESTION,)


async def test_a_table_row_answers_with_its_place(
    servers: Servers, publisher: Publisher, answerer: None
) -> None:
    """The right row is quoted, at once and whole; the span opens the document."""
    job, passage = uuid4().hex, await evidence()
    asked = PassageRetrieved(question=QUESTION, passages=(passage,))
    await publisher.publish(event(PASSAGE_RETRIEVED, job, asked))
    drafted: list[AnswerDrafted] = await received(
        servers, ANSWER_DRAFTED, job, lambda body: body.final
    )
    row = TEXT.splitlines()[1]
    start = 200 + TEXT.index(row)
    assert [(d.sentence, d.final, d.text) for d in drafted] == [(0, True, f"{row} [1]")]
    (citation,) = drafted[-1].citations
    assert (citation.quote, citation.start, citation.end) == (row, start, start + len(row))
    assert drafted[-1].passages == (passage,)


async def test_what_the_documents_do_not_hold_is_not_known(
    servers: Servers, publisher: Publisher, answerer: None
) -> None:
    """Nothing is made up; the nearest passages come along."""
    job, passage = uuid4().hex, await evidence()
    far = passage.model_copy(update={"dense_score": 0.5})
    asked = PassageRetrieved(question="Who repairs the bakery's oven?", passages=(far,))
    await publisher.publish(event(PASSAGE_RETRIEVED, job, asked))
    (final,) = await received(servers, ANSWER_DRAFTED, job, lambda body: body.final)
    assert (final.text, final.abstained, final.citations) == ("I don't know.", True, ())
    assert final.passages == (far,)
