"""Postgres: a pool of the service's own role, its migrations, and requests under row-level security."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import structlog

from penstock.common.failures import PermanentError, TransientError

log = structlog.get_logger()

_AWAY = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shutdown, crash recovery, cannot connect now
    asyncpg.InsufficientResourcesError,  # disk full, too many connections, out of memory
    asyncpg.PostgresSystemError,  # its disk fails
    asyncpg.ReadOnlySQLTransactionError,  # a standby that is about to take over
    asyncpg.TransactionRollbackError,  # deadlock, serialization
    asyncpg.LockNotAvailableError,
    asyncpg.InvalidAuthorizationSpecificationError,  # roles are not bootstrapped yet
    OSError,
    TimeoutError,
)

_BAD_INPUT = (
    asyncpg.DataError,  # NUL in a text, a number out of range, no JSON
    asyncpg.ProgramLimitExceededError,  # more than an index takes
)

ANSWERS_WITHIN_S = 2.0
"""A server that takes longer to let somebody in is as good as away."""

Setup = Callable[[asyncpg.Connection], Awaitable[None]]


class Database:
    """A service's schema. Background writers own it; requests see one tenant of it."""

    def __init__(self, pool: asyncpg.Pool, schema: str) -> None:
        self.pool = pool
        self._request_role = _request_role(schema)

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        dsn: str,
        *,
        schema: str,
        migrations: Path,
        pool_size: int = 4,
        setup: Setup | None = None,
        server_settings: dict[str, str] | None = None,
    ) -> AsyncIterator["Database"]:
        """Connect (waiting for Postgres to come), migrate, and close at the end.

        `server_settings` hold for every connection of the pool, whatever ran on it before.
        """
        settings = _settings(schema, server_settings or {})
        async with _pool(dsn, pool_size, setup, settings) as pool:
            async with pool.acquire() as connection:
                await migrate(connection, schema, migrations)
            yield cls(pool, schema)

    @asynccontextmanager
    async def transaction(self, *, flush: bool = True) -> AsyncIterator[asyncpg.Connection]:
        """
        One transaction as the schema's owner: for work in the background, all tenants.

        Args:
            flush: wait at its end for the disk. Not to wait is for what loses nothing but time if
                Postgres crashes within the next moments: what is flushed later carries it along.

        Raises:
            TransientError: Postgres is away, or the transaction lost a race: do it again.
            PermanentError: a value is none that Postgres takes.
        """
        first = "" if flush else "SET LOCAL synchronous_commit = off"
        async with _classified(), self.pool.acquire() as connection, _begun(connection, first):
            yield connection

    @asynccontextmanager
    async def statements(self) -> AsyncIterator[asyncpg.Connection]:
        """As `transaction`, for statements that are a transaction each: two round trips less."""
        async with _classified(), self.pool.acquire() as connection:
            yield connection

    @asynccontextmanager
    async def request(self, tenant: str) -> AsyncIterator[asyncpg.Connection]:
        """One transaction on behalf of a tenant, under row-level security."""
        # In hex, since what goes along with BEGIN takes no parameters: nothing to quote.
        name = f"convert_from('\\x{tenant.encode().hex()}', 'UTF8')"
        first = (
            f"SELECT set_config('app.tenant', {name}, true), "
            f"set_config('role', '{self._request_role}', true)"
        )
        async with _classified(), self.pool.acquire() as connection, _begun(connection, first):
            yield connection


class _OneTenant(asyncpg.Connection):  # type: ignore[misc]  # asyncpg has no types
    """A connection that shows the rows of the tenant it was last asked to, and knows which."""

    __slots__ = ("_tenant",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._tenant: str | None = None

    async def show(self, tenant: str) -> None:
        """One round trip when the tenant changes, none when it stays."""
        if self._tenant == tenant:
            return
        self._tenant = None  # whatever the server makes of it, until it says that it has done it
        await self.fetchval("SELECT set_config('app.tenant', $1, false)", tenant)
        self._tenant = tenant


class Reads:
    """A service's schema read on behalf of tenants, under row-level security, no transaction around.

    `Database.request` sets tenant and role anew in every transaction, as its connections are the
    owner's in between: three round trips that a few reads, each with a snapshot of its own in
    either case, do not need. Here the tenant stays set on a connection until another one asks.

    That is safe because the pool is used for nothing else: the role of requests comes with the
    connection itself, so that nothing on it ever runs as the owner, whom no policy binds; and a
    connection on which no tenant was set yet fails instead of showing rows.
    """

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        dsn: str,
        *,
        schema: str,
        migrations: Path,
        pool_size: int = 4,
        setup: Setup | None = None,
        server_settings: dict[str, str] | None = None,
    ) -> AsyncIterator["Reads"]:
        """As `Database.open`: who reads first must find the tables."""
        async with Database.open(dsn, schema=schema, migrations=migrations, pool_size=1):
            pass
        settings = _settings(schema, server_settings or {}) | {"role": _request_role(schema)}
        async with _pool(dsn, pool_size, setup, settings, kind=_OneTenant) as pool:
            yield cls(pool)

    @asynccontextmanager
    async def of(self, tenant: str) -> AsyncIterator[asyncpg.Connection]:
        """
        A connection that shows this tenant's rows.

        Raises:
            TransientError: Postgres is away.
            PermanentError: a value is none that Postgres takes.
        """
        async with _classified(), self._pool.acquire() as connection:
            await connection.show(tenant)
            yield connection


async def answers(dsn: str) -> str | None:
    """None when Postgres answers, else the reason; for readiness.

    On a connection of its own: a pool whose connections all work is busy, not away.
    """
    try:
        connection = await asyncpg.connect(dsn, timeout=ANSWERS_WITHIN_S)
    except TimeoutError:
        return f"Postgres does not answer within {ANSWERS_WITHIN_S:g} s"
    except _AWAY as error:
        return f"Postgres is away: {str(error) or type(error).__name__}"
    connection.terminate()  # there is nothing to say goodbye for
    return None


def _request_role(schema: str) -> str:
    return f"{schema}_request"


def _settings(schema: str, more: Mapping[str, str]) -> dict[str, str]:
    """Of the server, for every connection of a pool."""
    names = {"search_path": f"{schema}, public", "application_name": f"penstock-{schema}"}
    return names | dict(more)


@asynccontextmanager
async def _pool(
    dsn: str,
    size: int,
    setup: Setup | None,
    settings: dict[str, str],
    *,
    kind: type[asyncpg.Connection] = asyncpg.Connection,
) -> AsyncIterator[asyncpg.Pool]:
    pool = await _connect(dsn, size, setup, settings, kind)
    try:
        yield pool
    finally:
        try:
            await asyncio.wait_for(pool.close(), timeout=5)
        except TimeoutError:
            pool.terminate()


async def _connect(
    dsn: str,
    size: int,
    setup: Setup | None,
    settings: dict[str, str],
    kind: type[asyncpg.Connection],
) -> asyncpg.Pool:
    pause = 0.1
    while True:
        try:
            return await asyncpg.create_pool(
                dsn, min_size=1, max_size=size, init=setup, server_settings=settings,
                reset=_nothing_to_reset, connection_class=kind,
            )  # fmt: skip
        except _AWAY as error:
            log.warning("postgres_away", error=str(error))
            await asyncio.sleep(pause)
            pause = min(pause * 2, 5.0)


async def _nothing_to_reset(_: asyncpg.Connection) -> None:
    """What a transaction sets ends with it (SET LOCAL, locks), and asyncpg itself rolls back one
    that was broken off: saves a round trip for every transaction. A tenant of `Reads` is to stay."""


@asynccontextmanager
async def _begun(connection: asyncpg.Connection, first: str) -> AsyncIterator[None]:
    """A transaction as asyncpg's own, whose first statement goes along with BEGIN: one round trip."""
    try:
        await connection.execute(f"BEGIN; {first}")
        yield
    except BaseException:
        if not connection.is_closed():
            await connection.execute("ROLLBACK")
        raise
    await connection.execute("COMMIT")


@asynccontextmanager
async def _classified() -> AsyncIterator[None]:
    try:
        yield
    except _AWAY as error:
        raise TransientError(f"Postgres: {str(error) or type(error).__name__}") from error
    except _BAD_INPUT as error:
        raise _refused(error) from error
    except asyncpg.InterfaceError as error:
        if isinstance(error, ValueError):  # bad input that asyncpg itself sees; its text quotes it
            raise _refused(error) from error
        if "closed" in str(error) or "closing" in str(error):
            raise TransientError(f"Postgres: {error}") from error
        raise
    except asyncpg.InternalClientError as error:
        # The server has said goodbye on an idle connection, and it is not seen to be closed yet.
        if "cannot switch to state" in str(error):
            raise TransientError("Postgres ends the connection") from error
        raise


def _refused(error: Exception) -> PermanentError:
    return PermanentError(f"Postgres cannot store this: {str(error)[:500]}")


async def migrate(connection: asyncpg.Connection, schema: str, migrations: Path) -> None:
    """Run what has not run yet of `migrations/*.sql`, in order, each in its own transaction.

    Under an advisory lock: replicas that start together run each once.
    """
    await connection.execute("SELECT pg_advisory_lock(hashtext($1))", f"migrate {schema}")
    try:
        await connection.execute(
            f"CREATE TABLE IF NOT EXISTS {schema}.migration ("
            "name text PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())"
        )
        rows = await connection.fetch(f"SELECT name FROM {schema}.migration")  # noqa: S608
        done = {row["name"] for row in rows}
        for file in sorted(await asyncio.to_thread(lambda: list(migrations.glob("*.sql")))):
            if file.name in done:
                continue
            sql = await asyncio.to_thread(file.read_text)
            async with connection.transaction():
                await connection.execute(sql)
                await connection.execute(
                    f"INSERT INTO {schema}.migration (name) VALUES ($1)",  # noqa: S608
                    file.name,
                )
            log.info("migrated", schema=schema, name=file.name)
    finally:
        await connection.execute("SELECT pg_advisory_unlock(hashtext($1))", f"migrate {schema}")
