"""The database, the extension and the roles: each service owns its schema and nothing else."""

from collections.abc import Mapping
from urllib.parse import urlsplit, urlunsplit

import asyncpg

DATABASE = "penstock"
SCHEMAS = ("api", "ingest", "guard", "retrieve", "generate")
_LOCK = 7_364_201
"""Advisory lock: two bootstraps at once do not create the same role twice."""


async def bootstrap(admin_dsn: str, passwords: Mapping[str, str]) -> None:
    """Create what is missing; set every password. `passwords`: by schema. Idempotent.

    `admin_dsn` may name any database of the server; its role must be a superuser (to create the
    extension). Raises ValueError when a schema has no password, asyncpg's errors otherwise.
    """
    missing = [schema for schema in SCHEMAS if not passwords.get(schema)]
    if missing:
        raise ValueError(f"no password for schema {', '.join(missing)}")
    await _create_database(admin_dsn)
    connection = await asyncpg.connect(_of_database(admin_dsn, DATABASE))
    try:
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
            await _create_all(connection, passwords)
    finally:
        await connection.close()


def role(schema: str) -> str:
    """The login role that owns the schema."""
    return f"penstock_{schema}"


async def _create_database(admin_dsn: str) -> None:
    connection = await asyncpg.connect(admin_dsn)
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE):
            await connection.execute(f"CREATE DATABASE {DATABASE}")
    finally:
        await connection.close()


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
        owner, request = role(schema), f"{schema}_request"
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
