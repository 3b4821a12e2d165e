"""Documents through the whole system: versions, deletes, receipts, neighbours."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from penstock.client import Penstock
from penstock.common import topics
from penstock.common.envelope import Envelope, Publication
from penstock.common.events import DocumentSubmitted
from penstock.common.kafka import Publisher
from penstock.common.settings import KafkaSettings

pytestmark = pytest.mark.connected


async def searchable(penstock: Penstock, document: str) -> bool:
    found = [d async for d in penstock.documents() if d.id == document]
    return bool(found) and found[0].state == "searchable"


async def passages(penstock: Penstock, word: str, document: str) -> list[str]:
    result = await penstock.search(word, top_k=20, mode="lexical")
    return [p.text for p in result.passages if p.document_id == document]


async def test_bare_json_from_any_kafka_client_becomes_searchable(
    stack: Any, penstock: Penstock, until: Callable[..., Any]
) -> None:
    publisher = Publisher("test", KafkaSettings(kafka=stack.kafka))
    await publisher.start()
    name = f"bare-{uuid4().hex[:8]}"
    value = json.dumps({"text": f"The harbour clock {name} strikes at noon."}).encode()
    await publisher.send(topics.DOCUMENT_SUBMITTED.name, f"default/{name}".encode(), value, [])
    await publisher.stop()
    await until(lambda: searchable(penstock, name))
    assert await passages(penstock, name, name)


async def test_every_store_and_topic_keeps_the_receipts_word(
    stack: Any, penstock: Penstock, until: Callable[..., Any]
) -> None:
    """After a delete no table, index or blob holds the document; the topics are named as such."""
    marker = f"zyx{uuid4().hex}"
    name = f"secret-{marker[:9]}.md"
    place = f"Hollin{uuid4().hex[:6]}"
    text = f"# The vault\n\nThe vault of {place} was opened in 1931 with the word {marker}."
    body = {"id": name, "title": f"About {marker}", "text": text}
    job = await penstock.submit_documents([body])
    assert (await penstock.wait(job.id)).state == "succeeded"
    answer = await penstock.ask(f"When was the vault of {place} opened?")
    assert marker in answer.text
    removal = await penstock.wait((await penstock.delete_document(name)).id)
    assert removal.state == "succeeded", removal
    assert removal.result is not None
    stores = removal.result["stores"]
    assert {"index", "blobs", "ingest", "quarantine", "drafts", "answers"} <= set(stores)
    assert "gone_by" in stores["topics"]

    assert await passages(penstock, marker, name) == []
    held = [row async for row in rows_with(stack, marker, name)]
    assert held == []
    files = [p for p in (stack.folder / "blobs").rglob("*") if p.is_file()]
    assert not any(marker.encode() in p.read_bytes() for p in files)
    still = {r.topic for r in await stack.records() if marker.encode() in (r.value or b"")}
    assert topics.DOCUMENT_SUBMITTED.name not in still or "gone_by" in stores["topics"]


async def rows_with(stack: Any, marker: str, document: str) -> Any:
    """Every row of every table that holds the marker, as text or as bytes, the id itself aside."""
    async with stack.database() as db:
        tables = await db.fetch(
            "SELECT schemaname, tablename FROM pg_tables"
            " WHERE schemaname IN ('api', 'ingest', 'guard', 'retrieve', 'generate')"
        )
        for schema, table in tables:
            rows = await db.fetch(f'SELECT t::text AS row FROM "{schema}"."{table}" t')
            as_hex = marker.encode().hex()
            for row in rows:
                text = row["row"].replace(document, "")
                if marker in text or as_hex in text:
                    yield f"{schema}.{table}: {text[:300]}"


async def test_equal_documents_do_not_touch_each_other(
    penstock: Penstock, until: Callable[..., Any]
) -> None:
    word = f"twin{uuid4().hex[:10]}"
    text = f"The {word} lighthouse is painted red."
    one, two = f"{word}-1", f"{word}-2"
    job = await penstock.submit_documents([{"id": one, "text": text}, {"id": two, "text": text}])
    assert (await penstock.wait(job.id)).state == "succeeded"
    await penstock.wait((await penstock.delete_document(one)).id)
    assert await passages(penstock, word, one) == []
    assert await passages(penstock, word, two) == [text]
    again = await penstock.submit_documents([{"id": one, "text": text}])
    assert (await penstock.wait(again.id)).state == "succeeded"
    assert await passages(penstock, word, one) == [text]
    assert (await penstock.document(one)).searchable_version == 3


async def test_the_same_submission_again_is_unchanged(
    penstock: Penstock, until: Callable[..., Any]
) -> None:
    """From when ingest has heard that the first one is searchable; before, it is a version more."""
    name = f"same-{uuid4().hex[:8]}"
    body = {"id": name, "text": f"The tide at {name} is high."}
    first = await penstock.wait((await penstock.submit_documents([body])).id)
    assert first.state == "succeeded"

    async def unchanged() -> bool:
        before = (await penstock.document(name)).searchable_version
        again = await penstock.wait((await penstock.submit_documents([body])).id)
        assert again.state == "succeeded"
        return (await penstock.document(name)).searchable_version == before

    await until(unchanged)


async def test_a_delete_is_taken_in_ahead_of_a_backlog(
    stack: Any, penstock: Penstock, until: Callable[..., Any]
) -> None:
    """Thousands of documents wait; the delete does not wait behind them."""
    name = f"urgent-{uuid4().hex[:8]}"
    job = await penstock.submit_documents([{"id": name, "text": f"{name} must go."}])
    await penstock.wait(job.id)
    prefix = f"backlog-{uuid4().hex[:8]}"
    publisher = Publisher("test", KafkaSettings(kafka=stack.kafka))
    await publisher.start()
    try:
        for start in range(0, 2000, 500):
            await publisher.publish(
                *(submission(f"{prefix}-{n}") for n in range(start, start + 500))
            )
    finally:
        await publisher.stop()
    removal = await penstock.delete_document(name)
    await until(lambda: gone(penstock, name), 30)
    assert removal.id
    behind = [d async for d in penstock.documents() if d.id.startswith(prefix)]
    assert sum(d.state == "searchable" for d in behind) < 2000
    assert await passages(penstock, name, name) == []


async def gone(penstock: Penstock, document: str) -> bool:
    return (await penstock.document(document)).state == "removed"


def submission(document: str) -> Publication[DocumentSubmitted]:
    return Publication(
        topics.DOCUMENT_SUBMITTED,
        f"default/{document}",
        Envelope(id=uuid4().hex, tenant="default", job=uuid4().hex, subject=document),
        DocumentSubmitted(text=f"Document {document} waits for its turn in the queue."),
    )


async def test_a_file_that_disappears_from_a_watched_folder_is_deleted(
    stack: Any, penstock: Penstock, until: Callable[..., Any], tmp_path: Path
) -> None:
    name = f"watched-{uuid4().hex[:8]}.md"
    file = tmp_path / name
    file.write_text(f"# Watched\n\nThe {name} file is here.")
    process = await asyncio.create_subprocess_exec(
        *(f"{stack.penstock} publish {tmp_path} --watch").split(), env=stack.environment
    )
    try:
        await until(lambda: searchable(penstock, name))
        file.unlink()
        await until(lambda: gone(penstock, name))
    finally:
        process.terminate()
        await process.wait()
