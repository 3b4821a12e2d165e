"""Every call of the API, found from its own description: who gets in, and as what."""

import re
from typing import Any

import httpx
import pytest

from penstock.api.app import openapi

pytestmark = pytest.mark.connected

CALLS = [
    (method.upper(), path) for path, methods in openapi()["paths"].items() for method in methods
]
BODIES: dict[str, Any] = {
    "/v1/questions": {"question": "q"},
    "/v1/search": {"query": "q"},
    "/v1/keys": {"name": "a", "roles": ["reader"]},
    "/v1/collections": {"name": "made-by-nobody"},
    "/v1/quarantine/{quarantined}/decision": {"decision": "release"},
    "/v1/documents": {"documents": [{"text": "t"}]},
}
ASKING = {
    ("POST", "/v1/questions"), ("POST", "/v1/search"), ("GET", "/v1/documents/{document}/text"),
}  # fmt: skip
ANYONE = {
    ("GET", "/v1/jobs"), ("GET", "/v1/jobs/{job}"), ("GET", "/v1/jobs/{job}/events"),
    ("POST", "/v1/jobs/{job}/cancel"), ("GET", "/v1/collections"), ("GET", "/v1/webhook-secret"),
}  # fmt: skip
"""With any key; of jobs it sees its own alone."""


async def call(client: httpx.AsyncClient, method: str, path: str, key: str | None) -> Any:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    url = re.sub(r"\{\w+\}", "x", path)
    body = BODIES.get(path) if method == "POST" else None
    return await client.request(method, url, json=body, headers=headers)


@pytest.fixture(scope="module")
async def keys(closed: httpx.AsyncClient) -> dict[str, str]:
    """A key for each role, made by the operator's first."""
    made = {}
    for role in ("reader", "publisher", "approver"):
        answer = await closed.post(
            "/v1/keys",
            json={"name": role, "roles": [role]},
            headers={"authorization": f"Bearer {closed.headers['x-operator-key']}"},
        )
        assert answer.status_code == 201, answer.text
        made[role] = answer.json()["key"]
    return made


async def test_every_call_is_found(closed: httpx.AsyncClient) -> None:
    """The description leaves no call out, so what is tried below is all there is."""
    described = (await closed.get("/openapi.json")).json()["paths"]
    assert {(m.upper(), path) for path, ms in described.items() for m in ms} == set(CALLS)
    assert len(CALLS) >= 21
    assert all(path.startswith("/v1/") for _, path in CALLS)


@pytest.mark.parametrize(("method", "path"), CALLS)
async def test_no_call_is_answered_without_a_key(
    closed: httpx.AsyncClient, method: str, path: str
) -> None:
    """Not even whether a thing exists."""
    answer = await call(closed, method, path, None)
    assert answer.status_code == 401, answer.text
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(("method", "path"), CALLS)
async def test_a_reader_asks_and_changes_nothing(
    closed: httpx.AsyncClient, keys: dict[str, str], method: str, path: str
) -> None:
    """Any call that is added is closed to readers until it is named here."""
    status = (await call(closed, method, path, keys["reader"])).status_code
    assert (status == 403) is ((method, path) not in ASKING | ANYONE)


@pytest.mark.parametrize(("method", "path"), CALLS)
async def test_publishers_and_approvers_keep_to_their_own(
    closed: httpx.AsyncClient, keys: dict[str, str], method: str, path: str
) -> None:
    """A publisher's key neither reads nor decides; an approver's neither reads nor publishes."""
    document = path.startswith("/v1/documents") and not path.endswith("/text")
    seen = document and method == "GET"
    allowed = {
        "publisher": (method, path) in ANYONE or document,
        "approver": (method, path) in ANYONE or seen or path.startswith("/v1/quarantine"),
    }
    for role, may in allowed.items():
        status = (await call(closed, method, path, keys[role])).status_code
        assert (status != 403) is may, role
