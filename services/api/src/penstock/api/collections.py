"""Collections: kept here, and announced on the compacted topic that every service reads whole."""

from uuid import uuid4

import asyncpg

from penstock.api.models import NewCollection
from penstock.api.outbox import enqueue
from penstock.api.resources import Resources
from penstock.common.envelope import Envelope, Publication
from penstock.common.events import CollectionConfigured
from penstock.common.failures import PermanentError
from penstock.common.topics import COLLECTION_CONFIGURED


async def configure(
    connection: asyncpg.Connection, tenant: str, wanted: NewCollection
) -> CollectionConfigured:
    """Make or change a collection, and announce it."""
    configured = CollectionConfigured(**wanted.model_dump(exclude_none=True))
    await connection.execute(
        "INSERT INTO collection (tenant, name, config) VALUES ($1, $2, $3) "
        "ON CONFLICT (tenant, name) DO UPDATE SET config = excluded.config",
        tenant,
        configured.name,
        configured.model_dump(),
    )
    await enqueue(connection, _announcement(tenant, configured))
    return configured


async def introduce(connection: asyncpg.Connection, tenant: str) -> CollectionConfigured | None:
    """Give a tenant that has no collection its default one: that is what makes it known."""
    known = await connection.fetchval("SELECT count(*) FROM collection WHERE tenant = $1", tenant)
    return None if known else await configure(connection, tenant, NewCollection(name="default"))


async def require(shared: Resources, tenant: str, name: str) -> None:
    """
    Whoever has just made a collection may use it, though its announcement is still on its way,
    and whichever instance of the API made it.

    Raises:
        PermanentError: the tenant has none of this name (type `unknown_collection`).
    """
    try:
        shared.collections.get(tenant, name)
    except PermanentError:
        async with shared.database.request(tenant) as connection:
            config = await connection.fetchval(
                "SELECT config FROM collection WHERE tenant = $1 AND name = $2", tenant, name
            )
        if config is None:
            raise
        shared.collections.apply(tenant, name, CollectionConfigured.model_validate(config))


async def announce_all(connection: asyncpg.Connection) -> None:
    """At start: a cluster that was rebuilt learns again what there is."""
    rows = await connection.fetch("SELECT tenant, config FROM collection ORDER BY tenant, name")
    announcements = [
        _announcement(row["tenant"], CollectionConfigured.model_validate(row["config"]))
        for row in rows
    ]
    if announcements:
        await enqueue(connection, *announcements)


def _announcement(
    tenant: str, configured: CollectionConfigured
) -> Publication[CollectionConfigured]:
    event = uuid4().hex
    envelope = Envelope(id=event, tenant=tenant, job=event, subject=configured.name)
    return Publication(COLLECTION_CONFIGURED, f"{tenant}/{configured.name}", envelope, configured)
