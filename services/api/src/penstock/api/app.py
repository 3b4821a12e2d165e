"""The API's composition root: HTTP in front, the outbox, webhooks and the sweep behind it."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import Any

import httpx
import structlog
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from fastapi import FastAPI
from starlette.routing import Mount

from penstock.api import problems
from penstock.api.access import Role, check_settings, hashed, split_key
from penstock.api.bounds import Bounded
from penstock.api.collections import announce_all
from penstock.api.deadletters import DeadLetterReader
from penstock.api.handlers import GROUP, Handlers
from penstock.api.outbox import SOURCE, Relay
from penstock.api.postgres import MIGRATIONS, SCHEMA, prepare
from penstock.api.resources import Resources
from penstock.api.routes import answering, dead_letters, documents, jobs, operations, questions
from penstock.api.settings import ApiSettings
from penstock.api.signals import Signals
from penstock.api.sweep import Sweeper
from penstock.api.telemetry import Observed
from penstock.api.webhooks import Courier
from penstock.common.blobs import BlobStore
from penstock.common.consumer import Stage
from penstock.common.db import Database, answers
from penstock.common.kafka import Publisher, connection
from penstock.common.pacing import Pace
from penstock.common.service import Service, run

log = structlog.get_logger()


def create_app() -> FastAPI:
    """The HTTP side alone; its OpenAPI needs no server."""
    app = FastAPI(
        title="Penstock",
        version=version("penstock-api"),
        summary="Documents and questions in, cited answers out.",
        responses=answering.PROBLEMS,
        separate_input_output_schemas=False,
    )
    for module in (documents, questions, jobs, dead_letters, operations):
        app.include_router(module.router)
    problems.install(app)
    app.add_middleware(Bounded)
    app.add_middleware(Observed)
    return app


def openapi() -> dict[str, Any]:
    """The description of the HTTP interface, as `/openapi.json` serves it."""
    return create_app().openapi()


class Api:
    """What the process holds while it runs."""

    def __init__(self, settings: ApiSettings) -> None:
        check_settings(settings)
        self.settings = settings
        self.app = create_app()
        self.stage = Stage(GROUP, settings, pace=Pace(per_s=40))
        self.patient = Stage(GROUP, settings, patient=True)

    def service(self) -> Service:
        return Service(
            "api",
            self.settings,
            stage=(self.stage, self.patient),
            routes=[Mount("/", app=self.app)],
            resources=self.resources,
            ready=partial(answers, self.settings.database.get_secret_value()),
            stopping=self._stopping,
        )

    def _stopping(self) -> None:
        """Those who wait for a job or follow it are told what there is, and come again."""
        shared: Resources | None = getattr(self.app.state, "resources", None)
        if shared is not None:
            shared.signals.stop()

    @asynccontextmanager
    async def resources(self) -> AsyncIterator[None]:
        """Everything opened, the background tasks running; requests are served from here on."""
        settings = self.settings
        dsn = settings.database.get_secret_value()
        async with AsyncExitStack() as stack:
            database = await stack.enter_async_context(
                Database.open(
                    dsn, schema=SCHEMA, migrations=MIGRATIONS,
                    pool_size=settings.database_pool, setup=prepare,
                )
            )  # fmt: skip
            publisher = Publisher(SOURCE, settings)
            stack.push_async_callback(publisher.stop)
            await publisher.start()
            http = await stack.enter_async_context(httpx.AsyncClient(timeout=30.0))
            letters = DeadLetterReader(settings)
            stack.push_async_callback(letters.stop)
            signals = Signals(dsn)
            Handlers(database).subscribe(self.stage, self.patient)
            await _first_rows(database, settings)
            relay = Relay(database, publisher, await cluster_id(settings), signals)
            await stack.enter_async_context(
                _background(
                    signals=signals.run(),
                    outbox=relay.run(),
                    webhooks=Courier(settings, database, http, signals).run(),
                    sweep=Sweeper(settings, database).run(),
                )
            )
            await signals.connected.wait()
            self.app.state.resources = Resources(
                settings, database, signals, BlobStore(settings.blobs), http, letters,
                self.stage.collections,
            )  # fmt: skip
            try:
                yield
            finally:
                self.app.state.resources = None


@asynccontextmanager
async def _background(**loops: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Loops that run beside the requests; one that ends by a bug takes the process with it."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(loop, name=name) for name, loop in loops.items()]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


async def _first_rows(database: Database, settings: ApiSettings) -> None:
    """The operator's first key, and the collections for whoever does not know them."""
    async with database.transaction() as connection_:
        await announce_all(connection_)
        if settings.operator_key is None:
            return
        named = split_key(settings.operator_key.get_secret_value())
        assert named is not None
        await connection_.execute(
            "INSERT INTO api_key (id, tenant, name, secret_hash, roles, is_global) "
            "VALUES ($1, $2, 'PENSTOCK_OPERATOR_KEY', $3, $4, true) "
            "ON CONFLICT (id) DO UPDATE SET secret_hash = excluded.secret_hash",
            named[0],
            settings.default_tenant,
            hashed(named[1]),
            [role.value for role in Role],
        )


async def cluster_id(settings: ApiSettings) -> str:
    """The cluster's own id: part of the position of a delete. Waits for the brokers to come."""
    while True:
        admin = AIOKafkaAdminClient(**connection(settings))
        try:
            await admin.start()
            return str((await admin.describe_cluster())["cluster_id"])
        except KafkaError as error:
            log.warning("kafka_away", error=repr(error))
            await asyncio.sleep(1.0)
        finally:
            await admin.close()


def main() -> None:
    run(Api(ApiSettings()).service())


if __name__ == "__main__":
    main()
