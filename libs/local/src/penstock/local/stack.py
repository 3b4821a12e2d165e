"""Kafka and Postgres together, with roles and topics: what services, tests and benches stand on."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock.common.bootstrap.database import DATABASE, SCHEMAS, bootstrap, role
from penstock.common.bootstrap.topics import create_topics
from penstock.common.failures import PermanentError, TransientError
from penstock.common.settings import KafkaSettings
from penstock.local.credentials import Credentials
from penstock.local.failures import StackError
from penstock.local.kafka import Kafka
from penstock.local.ports import free_port
from penstock.local.postgres import Postgres, dsn
from penstock.local.process import Process, explain_exit

START_SECONDS = 60.0
STOP_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Servers:
    """Where the servers of a stack are."""

    kafka: str
    """Bootstrap server, `host:port`."""
    admin_dsn: str
    """Superuser, database `postgres`."""
    dsns: dict[str, str]
    """By schema: the DSN of the role that owns it, database `penstock`."""


@asynccontextmanager
async def servers(
    folder: Path, *, kafka_port: int | None = None, postgres_port: int | None = None
) -> AsyncIterator[Servers]:
    """Kafka and Postgres with roles and topics, without services; both stop at the end.

    Data stays in `folder` and is found again by the next start. Ports: free ones by default.
    `StackError` when one of them does not start.
    """
    folder = await asyncio.to_thread(folder.absolute)
    credentials = await asyncio.to_thread(Credentials.load, folder)
    kafka = Kafka(folder / "kafka", kafka_port or free_port())
    postgres = Postgres(folder / "postgres", postgres_port or free_port())
    started: list[Process] = []
    try:
        await together(
            _start("kafka", kafka, folder, started), _start("postgres", postgres, folder, started)
        )
        await prepare(kafka.bootstrap, postgres.admin_dsn, credentials)
        yield Servers(
            kafka=kafka.bootstrap,
            admin_dsn=postgres.admin_dsn,
            dsns=dsns(credentials, postgres.port),
        )
    finally:
        await asyncio.gather(*(process.stop(STOP_SECONDS) for process in started))
        postgres.close()


async def together(*work: Coroutine[Any, Any, None]) -> None:
    """All of it at once; when one fails the others are cancelled, and its `StackError` raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for each in work:
                group.create_task(each)
    except* StackError as failed:
        raise failed.exceptions[0] from None


async def prepare(kafka: str, admin_dsn: str, credentials: Credentials) -> None:
    """Roles and topics on servers that run. Idempotent."""
    settings = KafkaSettings(kafka=kafka, kafka_security="PLAINTEXT")
    try:
        await asyncio.gather(bootstrap(admin_dsn, credentials.database), create_topics(settings))
    except (PermanentError, TransientError) as error:
        raise StackError(str(error)) from error


def dsns(credentials: Credentials, port: int) -> dict[str, str]:
    return {
        schema: dsn(role(schema), credentials.database[schema], port, DATABASE)
        for schema in SCHEMAS
    }


async def _start(name: str, server: Kafka | Postgres, folder: Path, started: list[Process]) -> None:
    await asyncio.to_thread(server.prepare)
    log = folder / "logs" / f"{name}.log"
    process = await Process.start(name, server.command(), log, dies_with_us=True)
    started.append(process)
    await until_ready(process, server.ready)


async def until_ready(
    process: Process, ready: Callable[[], Awaitable[str | None]], timeout: float = START_SECONDS
) -> None:
    """Wait until `ready` gives no reason; `StackError` when the process ends or time is up."""
    deadline = time.monotonic() + timeout
    while reason := await ready():
        if process.exit_code is not None:
            raise explain_exit(process.name, process.exit_code, process.log)
        if time.monotonic() > deadline:
            raise StackError(f"{process.name} was not ready after {timeout:.0f} s: {reason}.")
        await asyncio.sleep(0.05)
