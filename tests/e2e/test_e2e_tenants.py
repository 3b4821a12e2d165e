"""Who gets in, and who finds what. That no tenant sees another is shown in tenants/."""

from typing import Any
from uuid import uuid4

import pytest

from penstock.client import ApiError, Penstock

pytestmark = pytest.mark.connected


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
