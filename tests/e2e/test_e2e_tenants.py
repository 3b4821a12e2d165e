"""Two tenants hold the same document ids, and neither sees anything of the other."""

from typing import Any
from uuid import uuid4

import pytest

from penstock.client import ApiError, Penstock

pytestmark = pytest.mark.connected


@pytest.fixture
async def tenants(stack: Any) -> Any:
    """Two clients, each with a key of a tenant of its own."""
    clients = []
    async with Penstock(stack.api, stack.operator_key) as operator:
        for name in ("red", "blue"):
            tenant = f"{name}-{uuid4().hex[:6]}"
            made = await operator.create_key(
                name=tenant,
                tenant=tenant,
                roles=["reader", "publisher", "operator", "approver"],
                groups=[],
            )
            clients.append(Penstock(stack.api, made["key"]))
    yield clients
    for client in clients:
        await client.__aexit__(None, None, None)


async def test_nothing_of_one_tenant_is_seen_by_the_other(tenants: Any) -> None:
    red, blue = tenants
    jobs = {}
    for client, secret in ((red, "crimson"), (blue, "azure")):
        job = await client.submit_documents(
            [{"id": "shared-id.md", "text": f"The password of the {secret} vault is {secret}42."}]
        )
        jobs[secret] = await client.wait(job.id)
        assert jobs[secret].state == "succeeded"
    for client, own, other in ((red, "crimson", "azure"), (blue, "azure", "crimson")):
        found = await client.search("password of the vault", top_k=20)
        assert found.passages
        assert all(own in p.text and other not in p.text for p in found.passages)
        assert own in await client.document_text("shared-id.md")
        assert other not in (await client.ask("What is the password of the vault?")).text
        assert [d.id async for d in client.documents()] == ["shared-id.md"]
        assert jobs[other].id not in [j.id async for j in client.jobs()]
        with pytest.raises(ApiError, match="404"):
            await client.job(jobs[other].id)
        with pytest.raises(ApiError, match="404"):
            await client.cancel_job(jobs[other].id)
    await red.wait((await red.delete_document("shared-id.md")).id)
    assert (await blue.search("password of the vault")).passages
    assert (await red.search("password of the vault")).passages == ()


async def test_a_wrong_key_is_refused_and_a_missing_one_off_loopback_too(stack: Any) -> None:
    async with Penstock(stack.api, "pk_nobody_nothing") as stranger:
        with pytest.raises(ApiError, match="401"):
            await stranger.search("anything")


async def test_a_reader_may_not_publish(stack: Any) -> None:
    async with Penstock(stack.api, stack.operator_key) as operator:
        made = await operator.create_key(name="r", roles=["reader"], groups=[])
    async with Penstock(stack.api, made["key"]) as reader:
        with pytest.raises(ApiError, match="403"):
            await reader.submit_documents([{"text": "no"}])


async def test_access_decides_who_finds_a_document(stack: Any) -> None:
    word = f"ledger{uuid4().hex[:8]}"
    async with Penstock(stack.api, stack.operator_key) as operator:
        job = await operator.submit_documents(
            [{"id": word, "text": f"The {word} lies in the safe.", "access": ["finance"]}]
        )
        assert (await operator.wait(job.id)).state == "succeeded"
        keys = {
            group: (await operator.create_key(name=group, roles=["reader"], groups=[group]))["key"]
            for group in ("finance", "sales")
        }
    for group, count in (("finance", 1), ("sales", 0)):
        async with Penstock(stack.api, keys[group]) as reader:
            for mode in ("dense", "lexical", "hybrid"):
                found = (await reader.search(word, mode=mode, top_k=50)).passages
                assert sum(p.document_id == word for p in found) == count, (group, mode)
