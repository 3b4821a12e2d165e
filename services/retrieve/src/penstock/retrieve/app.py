"""The composition root: `python -m penstock.retrieve.app indexer` or `… searcher`."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from penstock.common.consumer import Stage
from penstock.common.db import Database, answers
from penstock.common.pacing import Pace
from penstock.common.service import Service, run
from penstock.retrieve import searcher, writing
from penstock.retrieve.handlers import register
from penstock.retrieve.indexer import Index
from penstock.retrieve.merging import Upkeep
from penstock.retrieve.settings import RetrieveSettings

MIGRATIONS = Path(__file__).parent / "migrations"

CONNECTIONS = 4
"""One each for writing, removing, rejecting and upkeep."""


class IndexerProcess:
    """The index, its stage, and the upkeep beside it."""

    def __init__(self, settings: RetrieveSettings) -> None:
        self._settings = settings
        self._upkeep: asyncio.Task[None] | None = None
        self.stage = Stage("indexer", settings, pace=Pace())

    @asynccontextmanager
    async def resources(self) -> AsyncIterator[None]:
        """The database, and the upkeep for as long as the stage works."""
        async with Database.open(
            self._settings.database.get_secret_value(),
            schema="retrieve",
            migrations=MIGRATIONS,
            pool_size=max(self._settings.database_pool, CONNECTIONS),
            setup=writing.setup,
        ) as database:
            index = Index(database)
            register(self.stage, index)
            upkeep = Upkeep(database, self.stage.publisher.publish, index.untidy)
            self._upkeep = asyncio.create_task(upkeep.run(), name="upkeep")
            try:
                yield
            finally:
                self._upkeep.cancel()
                with suppress(asyncio.CancelledError):
                    await self._upkeep

    async def ready(self) -> str | None:
        if self._upkeep is not None and self._upkeep.done():
            return "the upkeep has ended with an error: restart the indexer, and see its log"
        return await answers(self._settings.database.get_secret_value())


def indexer(settings: RetrieveSettings) -> Service:
    process = IndexerProcess(settings)
    return Service(
        "indexer", settings, stage=process.stage, resources=process.resources, ready=process.ready
    )


PROCESSES: dict[str, Callable[[RetrieveSettings], Service]] = {
    "indexer": indexer,
    "searcher": searcher.build,
}


def main() -> None:
    name = sys.argv[1] if len(sys.argv) == 2 else ""
    if name not in PROCESSES:
        raise SystemExit(f"usage: python -m penstock.retrieve.app {' | '.join(PROCESSES)}")
    run(PROCESSES[name](RetrieveSettings()))


if __name__ == "__main__":
    main()
