"""Composition root of the two guard processes: `python -m penstock.guard.app documents|dialogue`."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from penstock.common.consumer import Stage
from penstock.common.db import Database, answers
from penstock.common.events import Stage as StageName
from penstock.common.pacing import Pace
from penstock.common.service import Service, run
from penstock.common.topics import (
    ANSWER_DRAFTED,
    DOCUMENT_CHUNKED,
    DOCUMENT_RETIRED,
    QUESTION_ASKED,
)
from penstock.guard.dialogue_handlers import DialogueGate
from penstock.guard.engine import Engines
from penstock.guard.handlers import DocumentGate
from penstock.guard.http import QuarantineDoors
from penstock.guard.pii import PiiDetector
from penstock.guard.policy import load_all
from penstock.guard.postgres import Dialogues
from penstock.guard.settings import GuardSettings

MIGRATIONS = Path(__file__).parent / "migrations"
BATCH = 64
"""Batches of chunks in one transaction."""
UNFLUSHED = {"synchronous_commit": "off"}
"""A verdict is worth less than what waiting for the disk would add to an answer."""
QUESTIONS = 8
"""Questions and sentences at once."""


def engines(settings: GuardSettings) -> Engines:
    """Every policy's engine. Blocks: imports Presidio (seconds) and reads the policy files."""
    from penstock.guard.presidio import recognisers

    names = None
    if settings.guard_ner:
        from penstock.guard.spacy_names import SpacyNames

        names = SpacyNames()
    return Engines(load_all(settings.guard_policy), PiiDetector(recognisers(), names))


def documents(settings: GuardSettings) -> Service:
    stage = Stage("guard-documents", settings, pace=Pace())
    doors = QuarantineDoors(stage.publisher, settings.service_secret)

    @asynccontextmanager
    async def resources() -> AsyncIterator[None]:
        ready = await asyncio.to_thread(engines, settings)
        async with _database(settings) as database:
            gate = DocumentGate(database, ready, stage.collections.get)
            stage.on(DOCUMENT_CHUNKED, gate.screen, batch=BATCH, stage=StageName.GUARD)
            stage.on(DOCUMENT_RETIRED, gate.retire, stage=StageName.GUARD, cancellable=False)
            doors.database = database
            try:
                yield
            finally:
                doors.database = None

    return Service(
        "guard-documents",
        settings,
        stage=stage,
        routes=doors.routes(),
        resources=resources,
        ready=partial(answers, settings.database.get_secret_value()),
    )


def dialogue(settings: GuardSettings) -> Service:
    stage = Stage("guard-dialogue", settings)

    @asynccontextmanager
    async def resources() -> AsyncIterator[None]:
        ready = await asyncio.to_thread(engines, settings)
        async with _database(settings, UNFLUSHED) as database:
            gate = DialogueGate(
                Dialogues(database),
                ready,
                stage.collections.get,
                stage.publisher.publish,
                stage.waits,
            )
            stage.on(
                QUESTION_ASKED, gate.admit, concurrency=QUESTIONS, in_key_order=True,
                stage=StageName.ADMIT,
            )  # fmt: skip
            stage.on(
                ANSWER_DRAFTED, gate.release, concurrency=QUESTIONS, in_key_order=True,
                stage=StageName.RELEASE,
            )  # fmt: skip
            yield

    return Service(
        "guard-dialogue",
        settings,
        stage=stage,
        resources=resources,
        ready=partial(answers, settings.database.get_secret_value()),
    )


@asynccontextmanager
async def _database(
    settings: GuardSettings, server_settings: dict[str, str] | None = None
) -> AsyncIterator[Database]:
    async with Database.open(
        settings.database.get_secret_value(),
        schema="guard",
        migrations=MIGRATIONS,
        pool_size=settings.database_pool,
        server_settings=server_settings,
    ) as database:
        yield database


PROCESSES = {"documents": documents, "dialogue": dialogue}


def main() -> None:
    if len(sys.argv) != 2 or sys.argv[1] not in PROCESSES:
        raise SystemExit(f"name the process: {' or '.join(PROCESSES)}")
    run(PROCESSES[sys.argv[1]](GuardSettings()))


if __name__ == "__main__":
    main()
