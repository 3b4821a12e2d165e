"""Composition root of the answerer: `python -m penstock.generate.app answerer`."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

from penstock.common import events
from penstock.common.consumer import Stage
from penstock.common.db import Database, answers
from penstock.common.service import Service, run
from penstock.common.topics import (
    DOCUMENT_INDEXED,
    DOCUMENT_REMOVED,
    PASSAGE_RETRIEVED,
    QUESTION_ADMITTED,
)
from penstock.generate.document_handlers import DraftUpkeep
from penstock.generate.handlers import Answering, plan
from penstock.generate.ports import Writer
from penstock.generate.postgres import PostgresDrafts
from penstock.generate.quoting import Quoting
from penstock.generate.settings import GenerateSettings
from penstock.models import DEFAULT_MODEL, Embedder, open_embedder

MIGRATIONS = Path(__file__).parent / "migrations"
QUESTIONS = 16
"""Questions at once: a model is waited for, not computed here."""
UNFLUSHED = {"synchronous_commit": "off"}
"""A draft that is lost by a crash of Postgres is written again: not worth waiting for the disk."""
DOCUMENTS = 256
"""Documents whose drafts are looked after in one transaction."""


class Embedders:
    """The embedder of each collection's model, opened when first needed."""

    def __init__(self, stack: AsyncExitStack, stage: Stage) -> None:
        self._stack = stack
        self._stage = stage
        self._open: dict[str, Embedder] = {}
        self._opening = asyncio.Lock()

    async def of(self, tenant: str, collection: str) -> Embedder:
        return await self.model(self._stage.collections.get(tenant, collection).model)

    async def model(self, model: str) -> Embedder:
        async with self._opening:
            if model not in self._open:
                self._open[model] = await self._stack.enter_async_context(open_embedder(model))
        return self._open[model]


async def _writer(settings: GenerateSettings, stack: AsyncExitStack, stage: Stage) -> Writer:
    """The model of the settings, or the one that needs none."""
    if settings.chat_url is None:
        embedders = Embedders(stack, stage)
        await embedders.model(DEFAULT_MODEL)
        return Quoting(embedders.of)
    # Imported here: the client of a model is not loaded where none is used.
    from penstock.generate.openai import OpenAIChat
    from penstock.generate.prompting import Prompted

    return Prompted(await stack.enter_async_context(OpenAIChat.open(settings)))


def answerer(settings: GenerateSettings) -> Service:
    stage = Stage("answerer", settings)
    documents = Stage("answerer", settings, patient=True)

    @asynccontextmanager
    async def resources() -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            database = await stack.enter_async_context(
                Database.open(
                    settings.database.get_secret_value(),
                    schema="generate",
                    migrations=MIGRATIONS,
                    pool_size=settings.database_pool,
                    server_settings=UNFLUSHED,
                )
            )
            drafts = PostgresDrafts(database)
            register(stage, drafts, await _writer(settings, stack, stage), settings)
            look_after(documents, drafts)
            yield

    return Service(
        "answerer",
        settings,
        stage=(stage, documents),
        resources=resources,
        ready=partial(answers, settings.database.get_secret_value()),
    )


def register(
    stage: Stage, drafts: PostgresDrafts, writer: Writer, settings: GenerateSettings
) -> None:
    answering = Answering(
        drafts,
        writer,
        stage.publisher.publish,
        stage.waits,
        stage.cancelled.__contains__,
        timedelta(seconds=settings.answer_deadline_s),
        timedelta(milliseconds=settings.sentence_wait_ms),
    )
    stage.on(
        QUESTION_ADMITTED, plan, concurrency=QUESTIONS, in_key_order=True,
        stage=events.Stage.PLAN,
    )  # fmt: skip
    stage.on(
        PASSAGE_RETRIEVED, answering.answer, concurrency=QUESTIONS, in_key_order=True,
        stage=events.Stage.ANSWER,
    )  # fmt: skip


def look_after(stage: Stage, drafts: PostgresDrafts) -> None:
    """No draft of what is deleted or replaced. A stage of its own: no load slows a question down."""
    upkeep = DraftUpkeep(drafts)
    stage.on(DOCUMENT_INDEXED, upkeep.replaced, batch=DOCUMENTS, cancellable=False)
    stage.on(DOCUMENT_REMOVED, upkeep.removed, batch=DOCUMENTS, cancellable=False)


PROCESSES = {"answerer": answerer}


def main() -> None:
    if len(sys.argv) != 2 or sys.argv[1] not in PROCESSES:
        raise SystemExit(f"name the process: {' or '.join(PROCESSES)}")
    run(PROCESSES[sys.argv[1]](GenerateSettings()))


if __name__ == "__main__":
    main()
