"""No call of any door shows a tenant anything of another that uses the same ids.

The calls are taken from the API's own description and the services' own routes; one that is added
fails here until it has cases.
"""

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from pydantic import SecretStr
from starlette.routing import Route as Served

from penstock.api.app import openapi
from penstock.common.settings import DatabaseSettings
from penstock.guard.app import documents as guard
from penstock.guard.settings import GuardSettings
from penstock.retrieve.searcher import build as searcher

pytestmark = pytest.mark.connected

Tenant = Any
"""See conftest.py."""

Route = tuple[str, str]
API: list[Route] = [
    (method.upper(), path) for path, methods in openapi()["paths"].items() for method in methods
]


@dataclass(frozen=True)
class Try:
    """One request for what is the other's, and what it must come to."""

    path: str
    status: int
    own: bool = False
    """The answer shows the caller's own, so that it cannot pass by being empty."""
    json: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)


Tries = dict[Route, list[Try]]


def documents(me: Tenant, them: Tenant) -> Tries:
    path, one = "/v1/documents", "/v1/documents/{document}"
    once, once_key = me.once
    return {
        ("POST", path): [
            Try(path, 202, json=once, headers=once_key),
            Try(path, 422, json={**once, "collection": them.shelf}),
            Try(path, 422, json={"documents": [{"id": "b", "blob": them.blob}]}),
            Try(path, 202, json={"documents": [{"id": "by-uri", "uri": them.blob}]}),
        ],
        ("GET", path): [
            Try(path, 200, own=True, params={"limit": 200}),
            Try(path, 200, params={"limit": 200, "cursor": them.next[path]}),
            Try(path, 200, own=True, params={"limit": 200, "tenant": them.name}),
        ],
        ("GET", one): [Try(f"{path}/{me.shared}", 200), Try(f"{path}/{them.private}", 404)],
        ("GET", f"{one}/text"): text_tries(me, them),
        ("DELETE", one): [Try(f"{path}/{them.spared}", 202), Try(f"{path}/{me.doomed}", 202)],
    }


def text_tries(me: Tenant, them: Tenant) -> list[Try]:
    return [
        Try(f"/v1/documents/{me.shared}/text", 200, own=True),
        Try(f"/v1/documents/{them.private}/text", 404),
        Try(f"/v1/documents/{quote(f'../{them.name}/{me.shared}', safe='')}/text", 404),
        Try(f"/v1/documents/{quote(f'{them.name}/{me.shared}', safe='')}/text", 404),
    ]


def search_tries(them: Tenant, unknown: int) -> list[Try]:
    """`unknown`: the status of a collection that the caller does not have."""
    path, query = "/v1/search", {"query": them.asked[0]["question"], "top_k": 50}
    theirs = ({"owner": them.name}, {"tenant": them.name}, {"tenant": {"in": [them.name]}})
    return [
        *(Try(path, 200, own=True, json={**query, "mode": m}) for m in ("hybrid", "dense")),
        Try(path, 200, own=True, json={"query": "word opens vault", "mode": "lexical"}),
        *(Try(path, 200, json={**query, "filter": one}) for one in theirs),
        Try(path, unknown, json={**query, "collection": them.shelf}),
    ]


def questions(me: Tenant, them: Tenant) -> Tries:
    path, (asked, asked_key) = "/v1/questions", me.asked
    theirs = {**asked, "filter": {"owner": them.name}}
    return {
        ("POST", path): [
            Try(path, 200, own=True, json=asked, headers={"Prefer": "wait=60", **asked_key}),
            Try(path, 200, json=theirs, headers={"Prefer": "wait=60"}),
            Try(path, 422, json={**asked, "collection": them.shelf}),
        ],
        ("POST", "/v1/search"): search_tries(them, 404),
    }


def jobs(me: Tenant, them: Tenant) -> Tries:
    path, one = "/v1/jobs", "/v1/jobs/{job}"
    ids = list(them.jobs.values())
    events = {"Last-Event-ID": str(them.event)}
    return {
        ("GET", path): [
            Try(path, 200, own=True, params={"limit": 200, "state": "failed"}),
            Try(path, 200, params={"limit": 200, "cursor": them.next[path]}),
        ],
        ("GET", one): [
            Try(f"{path}/{me.job}", 200, own=True),
            *(Try(f"{path}/{job}", 404) for job in ids),
            Try(f"{path}/{ids[0]}", 404, headers={"Prefer": "wait=1"}),
        ],
        ("POST", f"{one}/cancel"): [
            Try(f"{path}/{me.running}/cancel", 200),
            *(Try(f"{path}/{job}/cancel", 404) for job in ids),
        ],
        ("GET", f"{one}/events"): [
            Try(f"{path}/{me.jobs['asked']}/events", 200, own=True),
            *(Try(f"{path}/{me.job}/events", 200, headers=given) for given in ({}, events)),
            *(Try(f"{path}/{job}/events", 404) for job in ids),
            *(Try(f"{path}/{job}/events", 404, headers=events) for job in ids),
        ],
    }


def dead_letters(me: Tenant, them: Tenant) -> Tries:
    path, one = "/v1/dead-letters", "/v1/dead-letters/{dead_letter}"
    return {
        ("GET", path): [
            Try(path, 200, own=True),
            Try(path, 200, params={"cursor": them.next[path]}),
            Try(path, 200, own=True, params={"tenant": them.name}),
        ],
        ("GET", one): [
            Try(f"{path}/{me.letters[0]}", 200, own=True),
            *(Try(f"{path}/{letter}", 404) for letter in them.letters),
        ],
        ("DELETE", one): [Try(f"{path}/{letter}", 404) for letter in them.letters],
        ("POST", f"{one}/redrive"): [Try(f"{path}/{id_}/redrive", 404) for id_ in them.letters],
    }


def quarantine(me: Tenant, them: Tenant) -> Tries:
    path, one = "/v1/quarantine", "/v1/quarantine/{quarantined}"
    release = {"decision": "release"}
    return {
        ("GET", path): [
            Try(path, 200, own=True),
            Try(path, 200, own=True, params={"tenant": them.name}),
            Try(path, 200, params={"cursor": them.next[path]}),
        ],
        ("GET", one): [
            Try(f"{path}/{me.held[0]}", 200, own=True),
            *(Try(f"{path}/{item}", 404) for item in them.held),
        ],
        ("POST", f"{one}/decision"): [
            Try(f"{path}/{item}/decision", 404, json=release) for item in them.held
        ],
    }


def operations(me: Tenant, them: Tenant) -> Tries:
    new = {"name": "k", "roles": ["reader"]}
    return {
        ("GET", "/v1/collections"): [Try("/v1/collections", 200, own=True)],
        ("POST", "/v1/collections"): [
            Try("/v1/collections", 201, json={"name": them.twin, "chunk_tokens": 333}),
        ],
        ("GET", "/v1/keys"): [
            Try("/v1/keys", 200, own=True),
            Try("/v1/keys", 200, params={"cursor": them.next["/v1/keys"]}),
        ],
        ("POST", "/v1/keys"): [
            Try("/v1/keys", 403, json={**new, "tenant": them.name}),
            Try("/v1/keys", 403, json={**new, "all_tenants": True}),
        ],
        ("DELETE", "/v1/keys/{key}"): [Try(f"/v1/keys/{them.key}", 404)],
        ("GET", "/v1/webhook-secret"): [Try("/v1/webhook-secret", 200)],
    }


def cases(me: Tenant, them: Tenant) -> Tries:
    found: Tries = {}
    for about in (documents, questions, jobs, dead_letters, quarantine, operations):
        found |= about(me, them)
    return found


def inner_cases(me: Tenant, them: Tenant) -> dict[str, Tries]:
    """By process: what the same questions come to behind the API."""
    outer = cases(me, them)
    doors = ("/v1/quarantine", "/v1/quarantine/{quarantined}")
    return {
        "searcher": {
            ("POST", "/v1/search"): search_tries(them, 404),
            ("GET", "/v1/documents/{document:path}/text"): text_tries(me, them),
        },
        "guard-documents": {
            ("GET", "/v1/quarantine"): outer["GET", doors[0]],
            ("GET", "/v1/quarantine/{id}"): outer["GET", doors[1]],
            ("POST", "/v1/quarantine/{id}/decision"): outer["POST", f"{doors[1]}/decision"],
        },
    }


def served(process: str) -> list[Route]:
    """The inner doors of a process; that no other process has any is held by the unit tests."""
    common: dict[str, Any] = {
        "service_secret": SecretStr("s" * 32),
        "database": SecretStr("postgresql://nowhere"),
    }
    service = {
        "searcher": lambda: searcher(DatabaseSettings(**common)),
        "guard-documents": lambda: guard(GuardSettings(**common)),
    }[process]()
    routes = [route for route in service.app.routes if isinstance(route, Served)]
    return [
        (method, route.path)
        for route in routes
        for method in (route.methods or set()) - {"HEAD"}
        if route.path.startswith("/v1/")
    ]


INNER = [
    (process, *route) for process in ("searcher", "guard-documents") for route in served(process)
]


# ---------------------------------------------------------------- what comes of it


async def check(http: httpx.AsyncClient, method: str, one: Try, me: Tenant, them: Tenant) -> Any:
    """Make the request; nothing of theirs is in any part of what comes back."""
    answer = await http.request(
        method, one.path, json=one.json, headers=one.headers, params=one.params
    )
    assert answer.status_code == one.status, (one, answer.text)
    whole = answer.text + repr(answer.headers.raw)
    assert [secret for secret in them.secrets if secret in whole] == [], (one, whole)
    assert (me.word in whole) >= one.own, (one, whole)
    body = answer.json() if "json" in answer.headers["content-type"] else {}
    assert body.get("id") not in {*them.jobs.values(), *them.letters, *them.held, them.key}, one
    return body


async def theirs_is_unharmed(me: Tenant, them: Tenant) -> None:
    """Whatever was tried."""
    for document in (me.shared, them.private, them.spared, me.doomed):
        assert them.word in (await them.get(f"/v1/documents/{document}/text"))["text"]
    assert (await them.get(f"/v1/jobs/{me.running}"))["state"] == "running"
    for letter in them.letters:
        assert (await them.get(f"/v1/dead-letters/{letter}"))["decision"] is None
    for item in them.held:
        assert (await them.get(f"/v1/quarantine/{item}"))["decided_by"] is None
    collections = (await them.get("/v1/collections"))["collections"]
    (twin,) = [one for one in collections if one["name"] == them.twin]
    assert twin["chunk_tokens"] == 128


@pytest.mark.parametrize(("method", "path"), API)
async def test_no_call_of_the_api_reaches_into_the_other_tenant(
    two: Any, method: str, path: str
) -> None:
    """Neither by the other's ids nor by those that both have; and a change changes the caller's."""
    for me, them in (two, two[::-1]):
        tries = cases(me, them).get((method, path.replace(":path", "")))
        assert tries, f"give {method} {path} cases here: it is new"
        for one in tries:
            body = await check(me.http, method, one, me, them)
            if one.status == 202 and "kind" in body:
                await ended(me, them, body["id"])
        await theirs_is_unharmed(me, them)


async def ended(me: Tenant, them: Tenant, job: str) -> None:
    """What a job comes to shows nothing either: a reference to the other's blob is not read."""
    found = await me.until(f"/v1/jobs/{job}", lambda job: job["finished_at"] is not None)
    assert [secret for secret in them.secrets if secret in str(found)] == []
    if any(d["document_id"] == "by-uri" for d in (found["result"] or {}).get("documents", ())):
        assert found["state"] == "failed", found


@pytest.mark.parametrize(("process", "method", "path"), INNER)
async def test_no_inner_door_reaches_into_the_other_tenant(
    two: Any, process: str, method: str, path: str
) -> None:
    """Whoever holds a service token of one tenant gets no further than the API lets it."""
    for me, them in (two, two[::-1]):
        tries = inner_cases(me, them)[process].get((method, path))
        assert tries, f"give {method} {path} of {process} cases here: it is new"
        for one in tries:
            await check(me.inner[process], method, one, me, them)
        await theirs_is_unharmed(me, them)
