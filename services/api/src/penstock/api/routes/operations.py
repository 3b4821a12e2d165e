"""What operators and approvers do: quarantine, collections, keys."""

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response

from penstock.api.access import Anyone, Approver, Caller, Operator, hashed, new_key, split_key
from penstock.api.collections import configure, introduce
from penstock.api.errors import Problem
from penstock.api.models import Decision, NewCollection, NewKey
from penstock.api.proxy import pass_on
from penstock.api.resources import Resources, resources
from penstock.api.routes.answering import MOST_PER_PAGE, cursor, read_cursor
from penstock.api.webhooks import secret_of
from penstock.common.http import JSON

router = APIRouter()
Shared = Annotated[Resources, Depends(resources)]


@router.get("/v1/quarantine", tags=["quarantine"])
async def list_quarantine(request: Request, caller: Approver, shared: Shared) -> Response:
    """Quarantined documents that wait for a decision."""
    path = ("v1", "quarantine")
    return await pass_on(shared, caller, "guard", "GET", path, query=request.url.query)


@router.get("/v1/quarantine/{quarantined}", tags=["quarantine"])
async def show_quarantined(quarantined: str, caller: Approver, shared: Shared) -> Response:
    """One of them, with its findings."""
    return await pass_on(shared, caller, "guard", "GET", ("v1", "quarantine", quarantined))


@router.post("/v1/quarantine/{quarantined}/decision", tags=["quarantine"])
async def decide(
    quarantined: str, decision: Decision, caller: Approver, shared: Shared
) -> Response:
    """Release it into the index, or reject it."""
    body = orjson.dumps(decision.model_dump(exclude_none=True))
    path = ("v1", "quarantine", quarantined, "decision")
    return await pass_on(shared, caller, "guard", "POST", path, body=body)


@router.get("/v1/collections", tags=["collections"])
async def list_collections(caller: Anyone, shared: Shared) -> Response:
    """The tenant's collections."""
    found = shared.collections.of(caller.tenant)
    return JSON({"collections": [found[name].model_dump() for name in sorted(found)]})


@router.post("/v1/collections", status_code=201, tags=["collections"])
async def make_collection(collection: NewCollection, caller: Operator, shared: Shared) -> Response:
    """Configure a collection; a tenant is known to the system by having one."""
    async with shared.database.request(caller.tenant) as connection:
        configured = await configure(connection, caller.tenant, collection)
    shared.collections.apply(caller.tenant, configured.name, configured)
    return JSON(configured.model_dump(), status_code=201)


@router.get("/v1/keys", tags=["keys"])
async def list_keys(
    caller: Operator,
    shared: Shared,
    cursor_: Annotated[str | None, Query(alias="cursor")] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_PER_PAGE)] = 50,
) -> Response:
    """The keys of the tenant; of all tenants for a global operator. Secrets are not kept."""
    after = read_cursor(cursor_, str)
    async with shared.database.transaction() as connection:
        rows = await connection.fetch(
            "SELECT id, tenant, name, roles, groups, is_global AS all_tenants, created_at, "
            "revoked_at FROM api_key WHERE ($1 OR tenant = $2) AND ($3::text IS NULL OR id > $3) "
            "ORDER BY id LIMIT $4",
            caller.all_tenants,
            caller.tenant,
            after[0] if after else None,
            limit + 1,
        )
    shown: list[dict[str, Any]] = [dict(row) for row in rows[:limit]]
    more = len(rows) > limit
    return JSON({"keys": shown, "next": cursor(shown[-1]["id"]) if more else None})


@router.post("/v1/keys", status_code=201, tags=["keys"])
async def make_key(new: NewKey, caller: Operator, shared: Shared) -> Response:
    """Make a key. Its secret is shown in this response and nowhere again. A new tenant gets its default collection with its first key."""
    tenant = new.tenant or caller.tenant
    if not caller.all_tenants and (new.all_tenants or tenant != caller.tenant):
        raise Problem(
            "forbidden", "only a global operator makes keys of other tenants or global operators"
        )
    key_id, key = new_key()
    named = split_key(key)
    assert named is not None
    async with shared.database.request(tenant) as connection:
        await connection.execute(
            "INSERT INTO api_key (id, tenant, name, secret_hash, roles, groups, is_global) "
            "VALUES ($1, $2, $3, $4, $5, $6, $7)",
            key_id, tenant, new.name, hashed(named[1]), sorted(set(new.roles)),
            list(new.groups), new.all_tenants,
        )  # fmt: skip
        introduced = await introduce(connection, tenant)
    if introduced is not None:
        shared.collections.apply(tenant, introduced.name, introduced)
    shown = new.model_dump() | {"id": key_id, "tenant": tenant, "key": key}
    shown["webhook_secret"] = secret_of(shared.settings, tenant, key_id)
    return JSON(shown, status_code=201)


@router.delete("/v1/keys/{key}", tags=["keys"])
async def revoke(key: str, caller: Operator, shared: Shared) -> Response:
    """Revoke a key; from the next request on it opens nothing.

    A global operator's is revoked by another one alone, whichever tenant it belongs to.
    """
    async with shared.database.transaction() as connection:
        revoked = await connection.fetchval(
            "UPDATE api_key SET revoked_at = coalesce(revoked_at, clock_timestamp()) "
            "WHERE id = $1 AND ($2 OR (tenant = $3 AND NOT is_global)) RETURNING revoked_at",
            key,
            caller.all_tenants,
            caller.tenant,
        )
    if revoked is None:
        raise Problem("not_found", f"there is no key {key!r}")
    return JSON({"id": key, "revoked_at": revoked})


@router.get("/v1/webhook-secret", tags=["keys"])
async def webhook_secret(caller: Anyone, shared: Shared) -> Response:
    """The secret that signs the webhooks of this key's jobs (Standard Webhooks)."""
    return JSON({"webhook_secret": _secret(shared, caller)})


def _secret(shared: Resources, caller: Caller) -> str:
    return secret_of(shared.settings, caller.tenant, caller.key)
