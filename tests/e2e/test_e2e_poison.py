"""Whatever a careless or hostile publisher sends: a sentence for it, and its neighbours arrive."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer
from hostile_files import BOMBS, encrypted_pdf, endless_pdf, zip_bomb
from odd_records import NoText, batch_of

from penstock.client import ApiError, Document, Job, Penstock
from penstock.common.topics import DOCUMENT_SUBMITTED

pytestmark = pytest.mark.connected


@dataclass(frozen=True)
class Poison:
    """A record, and what its publisher is to read; `ce_id` and `ce_job` are added."""

    value: bytes
    says: str
    headers: tuple[tuple[str, bytes], ...] = ()
    error: str = "dead_lettered"
    key: bytes | None = None


RECORDS = {
    "broken-json": Poison(b'{"text": "not closed', "Invalid JSON"),
    "a-number-for-text": Poison(b'{"text": 5}', "text: Input should be a valid string"),
    "claims-to-be-a-version": Poison(
        b'{"text": 5, "version": 2000000000, "k": 99999999999, "n": -1}', "valid string"
    ),
    "no-object": Poison(b'["text"]', "the value: Input should be an object"),
    "nothing-in-it": Poison(b"{}", "give exactly one of text, uri and blob"),
    "two-things": Poison(b'{"text": "a", "uri": "file:///b"}', "not text and uri"),
    "too-much-text": Poison(b'{"text": "%s"}' % (b"x" * 140_000), "POST /v1/documents"),
    "no-utf8": Poison(b'{"text": "\xff\xfe"}', "document.submitted.v1"),
    "header-no-utf8": Poison(
        b'{"text": "a"}', "header origin is not UTF-8", headers=(("origin", b"\xff\xfe"),)
    ),
    "header-name-no-utf8": Poison(
        b'{"text": "a"}', "the name of a header, b'\\xff\\xfe', is not UTF-8",
        headers=((NoText("x"), b"v"),),
    ),
    "key-no-utf8": Poison(b'{"text": "a"}', "the key is not UTF-8", key=b"default/\xff\xfe"),
    "no-such-collection": Poison(b'{"text": "a", "collection": "no"}', "collection 'no' is not"),
    "anothers-blob": Poison(
        b'{"blob": "blob:other/s/%s"}' % (b"0" * 64), "not a blob of this tenant"
    ),
    "no-text": Poison(b'{"text": " "}', "The document is empty.", error="empty"),
    "a-file-of-the-system": Poison(
        b'{"uri": "file:///etc/passwd"}', "PENSTOCK_URI_PREFIXES", error="uri_refused"
    ),
    "a-host-inside": Poison(
        b'{"uri": "http://169.254.169.254/latest"}', "PENSTOCK_URI_PREFIXES", error="uri_refused"
    ),
}  # fmt: skip


@dataclass
class Sent:
    """Names of jobs, each also the id of its document."""

    poison: dict[str, Poison] = field(default_factory=dict)
    good: list[str] = field(default_factory=list)


async def in_one_batch(kafka: str, records: dict[str, Poison]) -> Sent:
    """Every record between two good ones, all of them in one batch, in one partition."""
    sent = Sent()
    mark = uuid4().hex[:6]
    async with AIOKafkaProducer(bootstrap_servers=kafka, max_batch_size=1_000_000) as producer:
        batch = batch_of(producer)

        def add(name: str, poison: Poison) -> None:
            headers = [("ce_id", name.encode()), ("ce_job", name.encode()), *poison.headers]
            key = poison.key or f"default/{name}".encode()
            assert batch.append(key=key, value=poison.value, timestamp=None, headers=headers)

        for kind, poison in records.items():
            sent.poison[f"{mark}-{kind}"] = poison
            add(f"{mark}-{kind}", poison)
            sent.good.append(f"{mark}-beside-{kind}")
            text = {"text": f"The good neighbour {sent.good[-1]} arrives."}
            add(sent.good[-1], Poison(json.dumps(text).encode(), ""))
        await (await producer.send_batch(batch, DOCUMENT_SUBMITTED.name, partition=0))
    return sent


async def ended(penstock: Penstock, job: str) -> Job | None:
    try:
        found = await penstock.job(job)
    except ApiError as error:
        if error.status != 404:
            raise
        return None  # nothing has been heard of it yet
    return found if found.ended else None


async def letters_of(penstock: Penstock, job: str) -> list[dict[str, Any]]:
    return [one async for one in penstock.dead_letters(limit=200) if one["job"] == job]


async def test_records_that_nobody_can_read_stand_between_records_that_arrive(
    stack: Any, penstock: Penstock, until: Callable[..., Any]
) -> None:
    """One batch of a producer: each bad record ends with a sentence, each good one in a search."""
    before = stack.pid("ingest")
    sent = await in_one_batch(stack.kafka, RECORDS)
    for name in sent.good:
        job = await until(lambda name=name: ended(penstock, name))
        assert (job.state, (await penstock.document(name)).state) == ("succeeded", "searchable")
    for name, poison in sent.poison.items():
        job = await until(lambda name=name: ended(penstock, name))
        assert (job.state, job.error.type) == ("failed", poison.error), name
        assert poison.says in job.error.message, name
        letters = await letters_of(penstock, name)
        assert len(letters) == (poison.error == "dead_lettered"), name
        assert all(poison.says in letter["message"] for letter in letters), name
    (claimed,) = [name for name in sent.poison if name.endswith("claims-to-be-a-version")]
    await penstock.submit_documents([{"id": claimed, "text": "Now it can be read."}])
    mended = await until(lambda: searchable(penstock, claimed))
    assert mended.latest == {"version": 1, "state": "searchable", "error": None}
    assert stack.pid("ingest") == before


async def searchable(penstock: Penstock, document: str) -> Document | None:
    found = await penstock.document(document)
    return found if found.state == "searchable" else None


async def test_the_dlq_commands_lead_a_record_back_to_a_job_that_succeeds(
    stack: Any, penstock: Penstock, until: Callable[..., Any]
) -> None:
    """list, show, redrive, drop, as an operator types them; what was decided is decided."""
    sent = await in_one_batch(
        stack.kafka, {kind: RECORDS[kind] for kind in ("header-name-no-utf8", "broken-json")}
    )
    named, broken = sent.poison
    assert (await until(lambda: ended(penstock, named))).state == "failed"
    assert (await until(lambda: ended(penstock, broken))).state == "failed"

    listed = {one["job"]: one for one in stack.json("dlq", "list", "--limit", "200")}
    assert listed[named]["reason"] == listed[broken]["reason"] == "invalid"
    table = stack.command("dlq", "list", "--limit", "200")
    assert listed[named]["id"] in table.stdout
    shown = stack.command("dlq", "show", listed[broken]["id"])
    assert "not closed" in shown.stdout

    done = stack.command("dlq", "redrive", listed[named]["id"])
    assert done.returncode == 0, done.stderr
    revived = await until(lambda: succeeded(penstock, named))
    assert (revived.attempt, revived.error) == (2, None)
    assert (await penstock.document(named)).state == "searchable"
    done = stack.command("dlq", "drop", listed[broken]["id"])
    assert done.returncode == 0, done.stderr

    left = {one["id"] for one in stack.json("dlq", "list", "--limit", "200")}
    assert not left & {listed[named]["id"], listed[broken]["id"]}
    for decision, job in (("drop", named), ("redrive", broken)):
        again = stack.command("dlq", decision, listed[job]["id"])
        assert again.returncode == 1
        assert "redriven or dropped already" in again.stderr
    assert (await penstock.job(broken)).state == "failed"


async def succeeded(penstock: Penstock, job: str) -> Job | None:
    found = await penstock.job(job)
    return found if found.state == "succeeded" else None


FILES: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "endless.pdf": (endless_pdf, "timeout", "longer than 8 s, the limit"),
    "locked.pdf": (encrypted_pdf, "encrypted", "remove the protection and submit it again"),
    "empty.docx": (lambda: b"", "empty", "The document is empty."),
    "noise.bin": (lambda: bytes(range(256)) * 64, "unknown_type", "not one that Penstock reads"),
    **{
        f"bomb.{kind}": (lambda kind=kind: zip_bomb(kind), "too_large", "unpacks to 640 MiB")  # type: ignore[misc]
        for kind in BOMBS
    },
}  # fmt: skip


async def test_files_that_hurt_their_reader_stand_between_files_that_arrive(
    stack: Any, penstock: Penstock, until: Callable[..., Any], tmp_path: Path
) -> None:
    """A real PDF that would take hours among them: it costs its worker, and that only."""
    before = stack.pid("ingest")
    mark = uuid4().hex[:6]
    jobs: dict[str, str] = {}
    for kind, (content, _, _) in FILES.items():
        bad, good = tmp_path / kind, tmp_path / f"beside-{kind}.txt"
        bad.write_bytes(await asyncio.to_thread(content))
        good.write_text(f"The good neighbour of {kind} in {mark} arrives.")
        for path in (bad, good):
            jobs[path.name] = (await penstock.upload({f"{mark}-{path.name}": path})).id
    for kind, (_, error, says) in FILES.items():
        job = await until(lambda kind=kind: ended(penstock, jobs[kind]), 120)
        assert (job.state, job.error.type) == ("failed", error), kind
        assert says in job.error.message, kind
        document = await penstock.document(f"{mark}-{kind}")
        assert document.latest is not None
        assert (document.state, document.latest["error"]["type"]) == ("failed", error)
        neighbour = await until(lambda kind=kind: ended(penstock, jobs[f"beside-{kind}.txt"]), 120)
        assert neighbour.state == "succeeded", kind
    assert stack.pid("ingest") == before


async def test_a_path_outside_the_allowed_prefix_is_refused_however_it_is_written(
    stack: Any, penstock: Penstock, until: Callable[..., Any]
) -> None:
    """Up and out, by a link to a file or to a folder, escaped, or beside the folder by its name."""
    docs = stack.folder.parent / "docs"
    beside = stack.folder.parent / "docs-private"
    for folder in (docs, beside):
        folder.mkdir(exist_ok=True)
    marker = f"secret {uuid4().hex[:8]}"
    (beside / "a.txt").write_text(marker)
    (docs / "allowed.txt").write_text("The good neighbour lies below the prefix.")
    (docs / "link.txt").symlink_to(beside / "a.txt")
    (docs / "folder").symlink_to(beside)
    paths = [
        "../docs-private/a.txt", "%2e%2e/docs-private/a.txt", "x/../../docs-private/a.txt",
        "link.txt", "folder/a.txt",
    ]  # fmt: skip
    uris = [f"file://{docs}/{path}" for path in paths] + [f"file://{beside}/a.txt"]
    jobs = {
        uri: (await penstock.submit_documents([{"id": uuid4().hex, "uri": uri}])).id for uri in uris
    }
    allowed = await penstock.submit_documents(
        [{"id": uuid4().hex, "uri": f"file://{docs}/allowed.txt"}]
    )
    for uri, name in jobs.items():
        job = await until(lambda name=name: ended(penstock, name))
        assert (job.state, job.error.type) == ("failed", "uri_refused"), uri
        assert "is not below a prefix that the operator allowed" in job.error.message
        assert marker not in str(job)
    assert (await until(lambda: ended(penstock, allowed.id))).state == "succeeded"
    found = await penstock.search(marker, mode="lexical")
    assert not [passage for passage in found.passages if marker in passage.text]
