"""A model that is away costs the questions whose time runs out, says so, and nothing else."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from service_process import service_process

from penstock.common.envelope import Envelope, Publication, Record, document_key, read
from penstock.common.events import (
    AnswerDrafted,
    Event,
    JobProgressed,
    Passage,
    PassageRetrieved,
    ProgressState,
    QuestionAdmitted,
    TextSpan,
)
from penstock.common.kafka import Publisher
from penstock.common.settings import ServiceSettings
from penstock.common.topics import (
    ANSWER_DRAFTED,
    JOB_PROGRESSED,
    PASSAGE_RETRIEVED,
    QUESTION_ADMITTED,
    QUESTION_PLANNED,
    Topic,
)
from penstock.local.stack import Servers

pytestmark = pytest.mark.connected

SECRET = "g" * 32
GOOD = json.dumps({"sentences": [{"text": "The weir is four metres high.", "passages": [1]}]})
EVIDENCE = Passage(
    chunk_id="c", document_id="weir", version=1, title="The weir", score=1.0, rank=1,
    text="The weir is four metres high.", span=TextSpan(start=0, end=29),
)  # fmt: skip
ASKED = PassageRetrieved(question="How high is the weir?", passages=(EVIDENCE,))


def answerer(servers: Servers, chat: Any, log: Path) -> AbstractAsyncContextManager[object]:
    """The process with this model; it gives a silent one up after two seconds."""
    settings = {
        "PENSTOCK_KAFKA": servers.kafka,
        "PENSTOCK_DATABASE": servers.dsns["generate"],
        "PENSTOCK_SERVICE_SECRET": SECRET,
        "PENSTOCK_CHAT_URL": chat.url,
        "PENSTOCK_CHAT_MODEL": "small",
        "PENSTOCK_CHAT_KEY": "right-key",
        "PENSTOCK_CHAT_TIMEOUT_S": "2",
    }
    return service_process(log, "penstock.generate.app", "answerer", settings=settings)


@pytest.fixture
async def publisher(servers: Servers) -> AsyncIterator[Publisher]:
    made = Publisher("tests", ServiceSettings(kafka=servers.kafka, service_secret=SECRET))
    await made.start()
    yield made
    await made.stop()


async def say(publisher: Publisher, topic: Topic[Any], body: Event, *, seconds: float = 90) -> str:
    """Publish an event of a question that may take so long; its job."""
    job, deadline = uuid4().hex, datetime.now(UTC) + timedelta(seconds=seconds)
    envelope = Envelope(id=job, tenant="default", job=job, subject=job, deadline=deadline)
    await publisher.publish(Publication(topic, document_key("default", job), envelope, body))
    return job


async def first(servers: Servers, topic: Topic[Any], job: str) -> Record[Any]:
    """The first event of the job in a topic, as soon as it is there; a whole answer only."""
    consumer = AIOKafkaConsumer(
        topic.name, bootstrap_servers=servers.kafka, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        async with asyncio.timeout(60):
            while True:
                record = read(await consumer.getone(), topic, cluster="c", default_tenant="default")
                if record.envelope.job == job and getattr(record.body, "final", True):
                    return record
    finally:
        await consumer.stop()


async def failure(servers: Servers, job: str) -> str:
    """Why the question failed."""
    word: JobProgressed = (await first(servers, JOB_PROGRESSED, job)).value
    assert word.state is ProgressState.FAILED
    assert word.error is not None
    assert word.error.type == "model_unavailable"
    return word.error.message


@pytest.mark.timeout(120)
async def test_questions_wait_for_a_model_as_long_as_they_may(
    servers: Servers, publisher: Publisher, chat: Any, tmp_path: Path
) -> None:
    """It refuses connections, then takes them and is silent, then answers: whose time is up by then
    hears why, the patient one is answered, others are planned meanwhile, and none is dead-lettered."""
    before = await dead_letters(servers)
    patient = await say(publisher, PASSAGE_RETRIEVED, ASKED)
    async with answerer(servers, chat, tmp_path / "log"):
        other = await say(publisher, QUESTION_ADMITTED, QuestionAdmitted(question="And now?"))
        assert (await first(servers, QUESTION_PLANNED, other)).value.searches == ("And now?",)
        hasty = await say(publisher, PASSAGE_RETRIEVED, ASKED, seconds=3)
        assert "cannot be reached" in await failure(servers, hasty)
        chat.silence, chat.replies = asyncio.Event(), [GOOD] * 9
        async with chat.listening():
            hasty = await say(publisher, PASSAGE_RETRIEVED, ASKED, seconds=4)
            other = await say(publisher, QUESTION_ADMITTED, QuestionAdmitted(question="And now?"))
            await first(servers, QUESTION_PLANNED, other)
            why = await failure(servers, hasty)
            assert "silent for too long" in why or "did not finish before the deadline" in why
            chat.silence.set()
            answer: AnswerDrafted = (await first(servers, ANSWER_DRAFTED, patient)).value
            assert answer.citations[0].document_id == "weir"
    assert await dead_letters(servers) == before


async def dead_letters(servers: Servers) -> int:
    """How many the answerer has."""
    consumer = AIOKafkaConsumer(bootstrap_servers=servers.kafka)
    await consumer.start()
    try:
        place = TopicPartition(PASSAGE_RETRIEVED.dead_letters("answerer"), 0)
        return int((await consumer.end_offsets([place]))[place])
    finally:
        await consumer.stop()
