"""The ingest process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from penstock.common import events
from penstock.common.blobs import BlobStore
from penstock.common.consumer import Stage
from penstock.common.db import Database, answers
from penstock.common.pacing import Pace
from penstock.common.service import Service, run
from penstock.common.topics import (
    DOCUMENT_INDEXED,
    DOCUMENT_REMOVED,
    DOCUMENT_SUBMITTED,
    REMOVAL_REQUESTED,
)
from penstock.ingest.handlers import Ingest
from penstock.ingest.pool import Limits, ParsePool
from penstock.ingest.postgres import MIGRATIONS, Submissions
from penstock.ingest.settings import IngestSettings
from penstock.ingest.sources import UriReader

_MIB = 1024 * 1024


def build(settings: IngestSettings) -> Service:
    """The process, ready to run; what it holds is opened when it starts."""
    stage = Stage("ingest", settings, pace=Pace())

    @asynccontextmanager
    async def resources() -> AsyncIterator[None]:
        limits = Limits(settings.parse_seconds, settings.parse_memory_mib * _MIB)
        dsn = settings.database.get_secret_value()
        async with (
            Database.open(
                dsn, schema="ingest", migrations=MIGRATIONS, pool_size=settings.database_pool
            ) as database,
            ParsePool.open(settings.parse_workers, limits) as pool,
        ):
            ingest = Ingest(
                stage=stage,
                submissions=Submissions(database),
                blobs=BlobStore(settings.blobs),
                pool=pool,
                uris=UriReader(
                    [p.strip() for p in settings.uri_prefixes.split(",") if p.strip()],
                    settings.max_document_bytes,
                ),
                max_bytes=settings.max_document_bytes,
            )
            subscribe(stage, ingest, settings.parse_workers)
            yield

    return Service(
        "ingest",
        settings,
        stage=stage,
        resources=resources,
        ready=partial(answers, settings.database.get_secret_value()),
    )


def subscribe(stage: Stage, ingest: Ingest, workers: int) -> None:
    """Deletes and finished facts are taken in even when their job was cancelled."""
    name = events.Stage.INGEST
    stage.on(
        DOCUMENT_SUBMITTED, ingest.submitted, concurrency=workers * 4, in_key_order=True, stage=name
    )
    stage.on(
        REMOVAL_REQUESTED, ingest.removal_requested, concurrency=4, stage=name, cancellable=False
    )
    stage.on(DOCUMENT_INDEXED, ingest.indexed, batch=64, stage=name, cancellable=False)
    stage.on(DOCUMENT_REMOVED, ingest.removed, batch=64, stage=name, cancellable=False)


def main() -> None:
    run(build(IngestSettings()))


if __name__ == "__main__":
    main()
