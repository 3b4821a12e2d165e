"""The database, the extension and the roles: each service owns its schema and nothing else."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from penstock.common.failures import PermanentError, TransientError

DATABASE = "penstock"
SCHEMAS = ("api", "ingest", "guard", "retrieve", "generate")
_LOCK = 7_364_201
"""Advisory lock: two bootstraps at once do not create the same role twice."""


async def bootstrap(
    admin_dsn: str, passwords: Mapping[str, str], *, dry_run: bool = False
) -> list[str]:
    """Create what is missing, set every password; what was missing, a name each. Idempotent.

    `admin_dsn` may name any database of the server; its role must be a superuser (to create the
    extension). `passwords`: by schema.

    Raises:
        TransientError: the server cannot be reached.
        PermanentError: a password is missing, or the server refuses.
    """
    without = [schema for schema in SCHEMAS if not passwords.get(schema)]
    if without:
        raise PermanentError(f"no password for schema {', '.join(without)}")
    async with _connected(admin_dsn) as connection:
        missing = await _missing_outside(connection)
        if dry_run and missing["database"]:
            return [*_named(missing), "extension vector", *(f"schema {s}" for s in SCHEMAS)]
        if not dry_run:
            await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
            await _create_database(connection)
    async with _connected(_of_database(admin_dsn, DATABASE)) as connection:
        missing |= await _missing_inside(connection)
        if not dry_run:
            async with connection.transaction():
                await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
                await _create_all(connection, passwords)
    return _named(missing)


def role(schema: str) -> str:
    """The login role that owns the schema."""
    return f"penstock_{schema}"


def _request_role(schema: str) -> str:
    """What the owner becomes for a request: row-level security holds for it."""
    return f"{schema}_request"


@asynccontextmanager
async def _connected(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection whose errors are sentences."""
    try:
        connection = await asyncpg.connect(dsn, timeout=30)
        try:
            yield connection
        finally:
            await connection.close()
    except (OSError, TimeoutError, asyncpg.CannotConnectNowError) as error:
        where = urlsplit(dsn).netloc.rpartition("@")[2]
        raise TransientError(f"Postgres at {where} cannot be reached: {error!r}") from error
    except asyncpg.InsufficientPrivilegeError as error:
        raise PermanentError(f"{error}; the role of the bootstrap must be a superuser") from error
    except (asyncpg.FeatureNotSupportedError, asyncpg.UndefinedFileError) as error:
        raise PermanentError(f"{error}; install pgvector 0.8 or later on the server") from error
    except (asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        raise PermanentError(f"Postgres refuses: {error}") from error


async def _missing_outside(connection: asyncpg.Connection) -> dict[str, list[str]]:
    database = await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE)
    have = {row["rolname"] for row in await connection.fetch("SELECT rolname FROM pg_roles")}
    roles = [name for schema in SCHEMAS for name in (role(schema), _request_role(schema))]
    return {
        "database": [] if database else [DATABASE],
        "role": [name for name in roles if name not in have],
    }


async def _missing_inside(connection: asyncpg.Connection) -> dict[str, list[str]]:
    extension = await connection.fetchval("SELECT 1 FROM pg_extension WHERE extname = 'vector'")
    have = {row["nspname"] for row in await connection.fetch("SELECT nspname FROM pg_namespace")}
    return {
        "extension": [] if extension else ["vector"],
        "schema": [schema for schema in SCHEMAS if schema not in have],
    }


def _named(missing: Mapping[str, list[str]]) -> list[str]:
    return [f"{kind} {name}" for kind, names in missing.items() for name in names]


async def _create_database(connection: asyncpg.Connection) -> None:
    """Under the lock: another bootstrap may have been first."""
    if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE):
        await connection.execute(f"CREATE DATABASE {DATABASE}")


async def _create_all(connection: asyncpg.Connection, passwords: Mapping[str, str]) -> None:
    await connection.execute(
        f"""
        CREATE EXTENSION IF NOT EXISTS vector SCHEMA public;
        REVOKE CREATE ON SCHEMA public FROM PUBLIC;
        REVOKE ALL ON DATABASE {DATABASE}, postgres FROM PUBLIC;
        """
    )
    have = {row["rolname"] for row in await connection.fetch("SELECT rolname FROM pg_roles")}
    for schema in SCHEMAS:
        owner, request = role(schema), _request_role(schema)
        if request not in have:
            await connection.execute(f"CREATE ROLE {request} NOLOGIN")
        if owner not in have:
            await connection.execute(f"CREATE ROLE {owner} LOGIN")
        # ALTER ROLE takes no parameters; Postgres itself quotes the literal.
        password = await connection.fetchval("SELECT quote_literal($1::text)", passwords[schema])
        await connection.execute(f"ALTER ROLE {owner} PASSWORD {password}")
        await connection.execute(
            f"""
            GRANT {request} TO {owner};
            GRANT CONNECT, TEMPORARY ON DATABASE {DATABASE} TO {owner};
            CREATE SCHEMA IF NOT EXISTS {schema} AUTHORIZATION {owner};
            ALTER SCHEMA {schema} OWNER TO {owner};
            ALTER ROLE {owner} IN DATABASE {DATABASE} SET search_path = {schema}, public;
            """
        )


def _of_database(dsn: str, database: str) -> str:
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{database}"))
