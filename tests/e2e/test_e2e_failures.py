"""Nothing is lost when a process is killed; nothing bad stops its neighbours; all of it is said."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hostile_files import encrypted_pdf

from penstock.client import ApiError, Penstock
from penstock.common import topics
from penstock.common.envelope import Envelope, Publication
from penstock.common.events import DocumentSubmitted
from penstock.common.kafka import Publisher
from penstock.common.settings import KafkaSettings

pytestmark = pytest.mark.connected


async def test_bad_input_ends_with_a_sentence_and_its_neighbours_arrive(
    stack: Any, penstock: Penstock, until: Callable[..., Any], tmp_path: Path
) -> None:
    names = {
        "encrypted.pdf": encrypted_pdf(),
        "empty.txt": b"",
        "noise.bin": bytes(range(256)) * 64,
        "fine.txt": b"The fine neighbour arrives in any case.",
    }
    folder = tmp_path / uuid4().hex[:8]
    folder.mkdir()
    for name, content in names.items():
        (folder / name).write_bytes(content)
    done = await asyncio.to_thread(stack.command, "publish", str(folder), "--json")
    assert done.returncode == 1

    outcomes = {row["document"]: row for row in json.loads(done.stdout)}
    assert outcomes["fine.txt"]["outcome"] == "searchable"
    for name, words in (("encrypted.pdf", "password"), ("empty.txt", "empty")):
        assert outcomes[name]["outcome"] == "failed"
        assert words in outcomes[name]["error"]["message"]
    assert outcomes["noise.bin"]["outcome"] == "failed"
    assert (await penstock.document("encrypted.pdf")).state == "failed"


async def test_an_oversized_file_is_refused_at_both_doors(
    stack: Any, penstock: Penstock, tmp_path: Path
) -> None:
    large = tmp_path / f"large-{uuid4().hex[:6]}.txt"
    large.write_bytes(b"word " * 900_000)
    small = tmp_path / f"small-{uuid4().hex[:6]}.txt"
    small.write_text("The small neighbour arrives.")
    done = await asyncio.to_thread(stack.command, "publish", str(tmp_path), "--json")
    outcomes = {row["document"]: row for row in json.loads(done.stdout)}
    assert outcomes[small.name]["outcome"] == "searchable"
    assert outcomes[large.name]["outcome"] == "failed"
    assert "PENSTOCK_MAX_DOCUMENT_BYTES" in outcomes[large.name]["error"]["message"]
    with pytest.raises(ApiError) as caught:
        await penstock.upload({large.name: large})
    assert (caught.value.status, caught.value.type) == (413, "too_large")


async def test_invalid_json_is_a_dead_letter_that_can_be_seen_redriven_and_dropped(
    stack: Any, penstock: Penstock, until: Callable[..., Any]
) -> None:
    name = f"broken-{uuid4().hex[:8]}"
    publisher = Publisher("test", KafkaSettings(kafka=stack.kafka))
    await publisher.start()
    try:
        await publisher.send(
            topics.DOCUMENT_SUBMITTED.name,
            f"default/{name}".encode(),
            b'{"text": "not closed',
            [("ce_id", name.encode()), ("ce_job", name.encode())],
        )
    finally:
        await publisher.stop()

    async def letters() -> list[dict[str, Any]]:
        return [item async for item in penstock.dead_letters() if item["job"] == name]

    (letter,) = await until(letters)
    assert letter["reason"] == "invalid"
    job = await until(lambda: ended(penstock, name))
    assert (job.state, job.error.type) == ("failed", "dead_lettered")
    assert "ingest" in job.error.message

    shown = stack.json("dlq", "show", letter["id"])
    assert "not closed" in str(shown)
    stack.json("dlq", "redrive", letter["id"])

    async def second() -> list[dict[str, Any]]:
        return [item for item in await letters() if item["id"] != letter["id"]]

    (again,) = await until(second)
    job = await until(lambda: ended(penstock, name))
    assert job.attempt == 2
    stack.json("dlq", "drop", again["id"])
    assert again["id"] not in [item["id"] for item in await letters()]


async def ended(penstock: Penstock, job: str) -> Any:
    found = [j async for j in penstock.jobs() if j.id == job]
    return found[0] if found and found[0].ended else None


async def test_a_redriven_record_finds_the_world_mended_and_the_job_succeeds(
    stack: Any, penstock: Penstock, until: Callable[..., Any]
) -> None:
    """A document for a collection that does not exist yet: dead letter, create, redrive, done."""
    collection = f"later-{uuid4().hex[:6]}"
    name = f"early-{uuid4().hex[:8]}"
    publisher = Publisher("test", KafkaSettings(kafka=stack.kafka))
    await publisher.start()
    try:
        await publisher.publish(
            Publication(
                topics.DOCUMENT_SUBMITTED,
                f"default/{name}",
                Envelope(id=name, tenant="default", job=name, subject=name),
                DocumentSubmitted(text=f"{name} came too early.", collection=collection),
            )
        )
    finally:
        await publisher.stop()

    async def letters() -> list[dict[str, Any]]:
        return [item async for item in penstock.dead_letters() if item["job"] == name]

    (letter,) = await until(letters)
    assert letter["reason"] == "unknown_collection"
    await penstock.create_collection(name=collection)
    await penstock.redrive(letter["id"])

    async def succeeded() -> bool:
        return (await penstock.job(name)).state == "succeeded"

    await until(succeeded)
    assert (await penstock.job(name)).attempt == 2
    assert (await penstock.document(name)).state == "searchable"
