"""Keys, roles, tenants: who may do what, and who sees nothing of whom."""

import asyncio
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from penstock.common import events as e
from penstock.common.topics import ANSWER_RELEASED

pytestmark = pytest.mark.connected


async def key(world: Any, *roles: str, **more: Any) -> httpx.AsyncClient:
    """A client with a new key."""
    answer = await world.client.post("/v1/keys", json={"name": "test", "roles": roles} | more)
    assert answer.status_code == 201, answer.text
    headers = {"Authorization": f"Bearer {answer.json()['key']}"}
    return httpx.AsyncClient(base_url=world.url, headers=headers, timeout=20)


async def tenant_client(world: Any) -> tuple[str, httpx.AsyncClient]:
    """A tenant that has a collection, and an operator of it."""
    tenant = f"tenant-{uuid4().hex[:6]}"
    roles = ("reader", "publisher", "operator")
    async with await key(world, *roles, tenant=tenant) as client:
        made = await client.post("/v1/collections", json={"name": "default"})
        assert made.status_code == 201, made.text
        while not world.resources.collections.knows(tenant):
            await client.get("/v1/collections")
    return tenant, await key(world, *roles, tenant=tenant)


@pytest.mark.parametrize(
    ("method", "path", "role"),
    [
        ("POST", "/v1/documents", "publisher"),
        ("DELETE", "/v1/documents/a", "publisher"),
        ("GET", "/v1/documents", "publisher"),
        ("POST", "/v1/questions", "reader"),
        ("POST", "/v1/search", "reader"),
        ("GET", "/v1/documents/a/text", "reader"),
        ("GET", "/v1/dead-letters", "operator"),
        ("POST", "/v1/dead-letters/a/redrive", "operator"),
        ("GET", "/v1/keys", "operator"),
        ("POST", "/v1/keys", "operator"),
        ("DELETE", "/v1/keys/a", "operator"),
        ("POST", "/v1/collections", "operator"),
        ("GET", "/v1/quarantine", "approver"),
        ("POST", "/v1/quarantine/a/decision", "approver"),
    ],
)
async def test_each_call_needs_its_role(world: Any, method: str, path: str, role: str) -> None:
    """A key without the role is told which one it lacks."""
    others = {"reader", "publisher", "approver", "operator"} - {role}
    if path.startswith("/v1/quarantine"):
        others -= {"operator"}
    if path == "/v1/documents" and method == "GET":
        others = {"reader"}
    async with await key(world, *sorted(others)) as client:
        bodies: dict[str, Any] = {"/v1/questions": {"question": "q"}, "/v1/search": {"query": "q"}}
        bodies |= {"/v1/keys": {"name": "a", "roles": ["reader"]}, "/v1/collections": {"name": "a"}}
        bodies |= {"/v1/quarantine/a/decision": {"decision": "release"}}
        answer = await client.request(method, path, json=bodies.get(path))
    assert answer.status_code == 403, answer.text
    assert role in answer.json()["detail"]


async def test_a_key_that_does_not_hold_is_refused_even_from_this_machine(world: Any) -> None:
    """Unknown, malformed and revoked keys are 401; no key at all is welcome on the loopback."""
    made = (await world.client.post("/v1/keys", json={"name": "a", "roles": ["reader"]})).json()
    for text in ("pk_0_" + "x" * 43, "nonsense", made["key"][:-1] + "!", made["key"] + "x"):
        answer = await world.client.get("/v1/jobs", headers={"Authorization": f"Bearer {text}"})
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
    good = {"Authorization": f"Bearer {made['key']}"}
    assert (await world.client.get("/v1/jobs", headers=good)).status_code == 200
    assert (await world.client.delete(f"/v1/keys/{made['id']}")).status_code == 200
    assert (await world.client.get("/v1/jobs", headers=good)).status_code == 401
    assert made["key"] not in (await world.client.get("/v1/keys")).text


async def test_a_stream_ends_with_its_key(world: Any, name: str) -> None:
    """Whoever holds a connection open does not go on reading after the key was revoked."""
    made = (await world.client.post("/v1/keys", json={"name": "a", "roles": ["reader"]})).json()
    headers = {"Authorization": f"Bearer {made['key']}"}
    async with httpx.AsyncClient(base_url=world.url, headers=headers, timeout=20) as client:
        asked = await client.post("/v1/questions", json={"question": name})
        job = asked.json()["id"]
        async with client.stream("GET", f"/v1/jobs/{job}/events") as events:
            lines = events.aiter_lines()
            await world.progress(job, e.Stage.ADMIT)
            assert (await anext(lines)).startswith("id: ")
            assert (await world.client.delete(f"/v1/keys/{made['id']}")).status_code == 200
            await world.progress(job, e.Stage.PLAN)
            async with asyncio.timeout(10):
                rest = "".join([line async for line in lines])
        assert '"plan":{"done":1' not in rest
        assert (await client.get(f"/v1/jobs/{job}/events")).status_code == 401
    assert (await world.get(f"/v1/jobs/{job}"))["state"] == "running"


@pytest.mark.parametrize("header", [{"Origin": "https://evil.example"}, {"Host": "evil.example"}])
async def test_a_page_of_another_site_is_no_local_program(
    world: Any, header: dict[str, str]
) -> None:
    """A browser on this machine cannot be made to act for the sites that it visits."""
    assert (await world.client.get("/v1/jobs", headers=header)).status_code == 401


async def test_a_reader_sees_its_own_questions_alone(world: Any, name: str) -> None:
    """Answers quote documents that another key's groups may not be allowed to read."""
    async with (
        await key(world, "reader", groups=["hr"]) as mine,
        await key(world, "reader") as other,
    ):
        job = (await mine.post("/v1/questions", json={"question": name})).json()["id"]
        assert (await mine.get(f"/v1/jobs/{job}")).status_code == 200
        for path in (f"/v1/jobs/{job}", f"/v1/jobs/{job}/events"):
            assert (await other.get(path)).status_code == 404
        assert job not in (await other.get("/v1/jobs")).text
        assert (await other.post(f"/v1/jobs/{job}/cancel")).status_code == 404
    (record,) = await world.of_job("question.asked.v1", job)
    assert e.QuestionAsked.model_validate_json(record.value).groups == ("hr",)


async def test_a_tenants_operator_makes_no_keys_for_others(world: Any) -> None:
    """Only a global operator crosses tenants."""
    tenant, client = await tenant_client(world)
    async with client:
        body: dict[str, Any] = {"name": "a", "roles": ["reader"], "tenant": "default"}
        assert (await client.post("/v1/keys", json=body)).status_code == 403
        body = {"name": "a", "roles": ["reader"], "all_tenants": True}
        assert (await client.post("/v1/keys", json=body)).status_code == 403
        assert {k["tenant"] for k in (await client.get("/v1/keys")).json()["keys"]} == {tenant}


async def test_a_tenants_operator_does_not_lock_the_global_one_out(world: Any) -> None:
    """The operator of one tenant manages its keys, not those of the whole installation."""
    body: dict[str, Any] = {"name": "a", "roles": ["operator"], "all_tenants": True}
    whole = (await world.client.post("/v1/keys", json=body)).json()
    async with await key(world, "operator") as client:
        assert (await client.delete(f"/v1/keys/{whole['id']}")).status_code == 404
        own = (await client.post("/v1/keys", json={"name": "b", "roles": ["reader"]})).json()
        assert (await client.delete(f"/v1/keys/{own['id']}")).status_code == 200
    assert (await world.client.delete(f"/v1/keys/{whole['id']}")).status_code == 200


async def test_two_tenants_see_nothing_of_each_other(world: Any, name: str) -> None:
    """The same ids in two tenants are two things; lists, jobs and documents stay apart."""
    tenant, client = await tenant_client(world)
    async with client:
        ours = await world.publish({"id": name, "text": "ours"})
        made = await client.post(
            "/v1/documents", json={"documents": [{"id": name, "text": "theirs"}]}
        )
        theirs = made.json()["id"]
        await world.index(name, ours)
        assert (await client.get(f"/v1/documents/{name}")).json()["state"] == "pending"
        assert (await client.get(f"/v1/jobs/{ours}")).status_code == 404
        assert (await world.client.get(f"/v1/jobs/{theirs}")).status_code == 404
        assert ours not in (await client.get("/v1/jobs")).text
        assert len((await client.get("/v1/documents")).json()["documents"]) == 1
    (record,) = await world.of_job("document.submitted.v1", theirs)
    assert record.key.decode() == f"{tenant}/{name}"


async def test_an_idempotency_key_and_a_cursor_reach_into_no_other_tenant(
    world: Any, name: str
) -> None:
    """Guessing what another tenant sent finds neither its job nor its pages."""
    _, client = await tenant_client(world)
    body = {"documents": [{"id": name, "text": "the same"}]}
    once = {"Idempotency-Key": name}
    async with client:
        ours = (await world.client.post("/v1/documents", json=body, headers=once)).json()["id"]
        theirs = (await client.post("/v1/documents", json=body, headers=once)).json()["id"]
        assert ours != theirs
        await world.publish({"id": f"{name}-2", "text": "t"})
        for path in ("documents", "jobs"):
            page = await world.get(f"/v1/{path}?limit=1")
            answer = await client.get(f"/v1/{path}", params={"cursor": page["next"]})
            assert answer.status_code == 200
            assert {row["id"] for row in answer.json()[path]} <= {name, theirs}


async def test_row_level_security_guards_every_table(world: Any, name: str) -> None:
    """As the role of a request no row of another tenant is seen, or can be written."""
    await world.index(name, f"sub-{name}")
    job = await world.ask(callback_url=f"http://127.0.0.1:{world.hook_port}/x")
    citation = e.Citation(
        marker=1, document_id=name, version=1, chunk_id="c", quote="q", start=0, end=1
    )
    body = e.AnswerReleased(
        question="q", ask=1, round=0, sentence=0, final=True, text="t", citations=(citation,)
    )
    await world.say(ANSWER_RELEASED, job, job, body)
    await world.until(job, "succeeded")
    await world.remove(name, f"del-{name}")
    async with world.resources.database.pool.acquire() as connection:
        looking = connection.transaction()
        await looking.start()
        try:
            secured, counts, changed = await _as_a_request(connection)
        finally:
            await looking.rollback()
    assert secured.pop("migration") is False
    assert all(secured.values()), secured
    assert set(counts["somebody"].values()) == {0}
    assert changed == "UPDATE 0"
    seen = {"job", "part", "job_event", "answer", "document", "receipt", "receipt_store",
            "outbox", "webhook"}  # fmt: skip
    assert all(counts["default"][table] > 0 for table in seen), counts["default"]


async def _as_a_request(connection: Any) -> tuple[dict[str, bool], dict[str, Any], str]:
    """What the role of a request sees, even with rights to everything that it does not have."""
    rows = await connection.fetch(
        "SELECT c.relname, c.relrowsecurity FROM pg_class c JOIN pg_namespace n "
        "ON n.oid = c.relnamespace WHERE n.nspname = 'api' AND c.relkind = 'r'"
    )
    secured = {row["relname"]: row["relrowsecurity"] for row in rows}
    await connection.execute("GRANT SELECT, UPDATE ON ALL TABLES IN SCHEMA api TO api_request")
    counts: dict[str, Any] = {}
    await connection.execute("SET LOCAL ROLE api_request")
    for tenant in ("default", "somebody"):
        await connection.execute("SELECT set_config('app.tenant', $1, true)", tenant)
        counts[tenant] = {
            table: await connection.fetchval(f"SELECT count(*) FROM {table}")
            for table in secured
            if table != "migration"
        }
    return secured, counts, await connection.execute("UPDATE job SET error = NULL")


async def test_health_metrics_and_the_documentation_are_served(world: Any) -> None:
    """The process's own pages are not hidden by the API's."""
    for path in ("/healthz", "/readyz", "/metrics", "/openapi.json", "/docs"):
        assert (await world.client.get(path)).status_code == 200, path
    unknown = await world.client.get("/v1/nothing")
    assert unknown.headers["content-type"] == "application/problem+json"
    assert Path(unknown.json()["type"]).name == "not_found"
