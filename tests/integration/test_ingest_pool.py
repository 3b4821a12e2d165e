"""Hostile files: each costs its worker process, none the service or the next document."""

import asyncio
import signal
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hostile_files import BOMBS, MIB, encrypted_pdf, endless_pdf, greedy_pdf, zip_bomb

from penstock.common.events import ElementKind
from penstock.common.failures import TransientError
from penstock.ingest.detect import Detected, FileType
from penstock.ingest.failures import Unreadable
from penstock.ingest.jobs import Job
from penstock.ingest.parsers.longtail import parse_longtail
from penstock.ingest.pool import Limits, ParsePool

pytestmark = pytest.mark.connected

# A worker whose parser does what a document tells it to: the real loop, limits and protocol.
HOSTILE = """
import os, sys, time
import penstock.ingest.worker as worker

def obey(job):
    text = job.data.decode()
    if text == "hang":
        while True:
            time.sleep(3600)
    if text == "spin":
        while True:
            pass
    if text == "eat":
        return bytearray(1 << 40)
    if text == "crash":
        os.abort()
    if text == "raise":
        raise ZeroDivisionError("oh")
    if text == "tell":
        raise LookupError(" ".join(os.environ))
    if text == "nest":
        return obey(job)
    return real(job)

real, worker.work = worker.work, obey
if __name__ == "__main__":
    worker.main(*map(int, sys.argv[1:4]))
"""


def job(data: bytes, filename: str | None = "a.txt") -> Job:
    return Job(data, filename, "bge-small-en-v1.5", chunk_tokens=220, max_chunks=1000)


@pytest.fixture
async def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ParsePool]:
    (tmp_path / "hostile_parser.py").write_text(HOSTILE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    pool = ParsePool(1, Limits(seconds=3, memory_bytes=1024 * MIB), module="hostile_parser")
    yield pool
    await pool.close()


@pytest.mark.parametrize(
    ("order", "reason", "message"),
    [
        ("hang", "timeout", "longer than 3 s"),
        ("spin", "timeout", "longer than 3 s"),
        ("eat", "out_of_memory", "more memory"),
        ("crash", "crashed", "crashed its parser \\(SIGABRT\\)"),
        ("raise", "damaged", "ZeroDivisionError: oh"),
        ("nest", "damaged", "nested too deeply"),
    ],
)
async def test_a_hostile_file_fails_alone_and_the_next_one_is_read(
    hostile: ParsePool, order: str, reason: str, message: str
) -> None:
    bad = asyncio.create_task(hostile.run(job(order.encode())))
    good = asyncio.create_task(hostile.run(job(b"Water flows.")))
    with pytest.raises(Unreadable, match=message) as caught:
        await bad
    assert caught.value.type == reason
    assert (await good).batches[0][0].text == "Water flows."


async def test_a_file_that_takes_over_its_parser_finds_no_secret_there(
    hostile: ParsePool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whatever the service was given: the worker inherits what a parser needs, by name."""
    secrets = ("PENSTOCK_DATABASE", "PENSTOCK_SERVICE_SECRET", "PENSTOCK_KAFKA_PASSWORD",
               "PENSTOCK_CHAT_KEY", "PENSTOCK_OPERATOR_KEY", "AWS_SECRET_ACCESS_KEY")  # fmt: skip
    for name in secrets:
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("PENSTOCK_MODELS", str(tmp_path))
    with pytest.raises(Unreadable, match="LookupError") as told:
        await hostile.run(job(b"tell"))
    assert not any(name in str(told.value) for name in secrets)
    assert "PENSTOCK_MODELS" in str(told.value)


async def test_a_worker_imports_nothing_from_the_folder_it_is_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stack that is started in a folder of documents runs none of them."""
    (tmp_path / "traceback.py").write_text("raise SystemExit('taken over')")
    monkeypatch.chdir(tmp_path)
    async with ParsePool.open(1, Limits(seconds=30, memory_bytes=1024 * MIB)) as opened:
        assert (await opened.run(job(b"Water flows."))).converter == "text"


async def test_a_worker_that_never_gets_ready_is_no_fault_of_the_document(
    hostile: ParsePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when its machine has stalled: the document waits for a new one, and is read."""
    document = job(b"Water flows.")
    await hostile.run(document)
    process = hostile._workers[0]._process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    with monkeypatch.context() as patched:
        patched.setattr("penstock.ingest.pool.START_SECONDS", 1)
        with pytest.raises(TransientError, match="not ready within 1 s"):
            await hostile.run(document)
    assert (await hostile.run(document)).converter == "text"


async def test_a_cancelled_caller_gives_its_worker_back(hostile: ParsePool) -> None:
    hanging = asyncio.create_task(hostile.run(job(b"hang")))
    await asyncio.wait([hanging], timeout=0.2)
    hanging.cancel()
    assert (await hostile.run(job(b"Water flows."))).converter == "text"


async def test_closing_stops_what_is_running_at_once(hostile: ParsePool) -> None:
    hanging = asyncio.create_task(hostile.run(job(b"hang")))
    await asyncio.wait([hanging], timeout=0.5)
    async with asyncio.timeout(2):
        await hostile.close()
    with pytest.raises(TransientError):
        await hanging


@pytest.fixture(scope="module")
async def pool() -> AsyncIterator[ParsePool]:
    async with ParsePool.open(1, Limits(seconds=30, memory_bytes=512 * MIB)) as opened:
        yield opened


@pytest.mark.parametrize("kind", BOMBS)
async def test_a_zip_bomb_is_bounded_even_when_it_lies(pool: ParsePool, kind: str) -> None:
    """By what its directory says; where that says less, by what may be read of it, or by memory."""
    with pytest.raises(Unreadable, match="unpacks to 640 MiB; the limit is 512 MiB") as honest:
        await pool.run(job(zip_bomb(kind), f"bomb.{kind}"))
    assert honest.value.type == "too_large"
    with pytest.raises(Unreadable) as lying:
        await pool.run(job(zip_bomb(kind, claimed=1000), f"bomb.{kind}"))
    assert lying.value.type == ("damaged" if kind == "xlsx" else "out_of_memory")


async def test_an_encrypted_pdf_says_what_to_do(pool: ParsePool) -> None:
    with pytest.raises(Unreadable, match="protected by a password: remove the protection"):
        await pool.run(job(encrypted_pdf(), "secret.pdf"))


async def test_a_small_pdf_that_takes_hours_is_ended_at_the_limit() -> None:
    """Real: 2 KiB that keep PDFium busy in constant memory; the next document is read as ever."""
    async with ParsePool.open(1, Limits(seconds=3, memory_bytes=512 * MIB)) as opened:
        with pytest.raises(Unreadable, match="longer than 3 s") as caught:
            await opened.run(job(endless_pdf(), "endless.pdf"))
        assert caught.value.type == "timeout"
        assert (await opened.run(job(b"Water flows."))).converter == "text"


async def test_a_small_pdf_that_takes_gigabytes_is_ended_at_the_limit(pool: ParsePool) -> None:
    with pytest.raises(Unreadable) as caught:
        await pool.run(job(greedy_pdf(), "greedy.pdf"))
    assert caught.value.type in ("crashed", "out_of_memory"), "as the allocator of PDFium ends it"
    assert (await pool.run(job(b"Water flows."))).converter == "text"


async def test_a_stream_that_inflates_without_end_ends_at_the_memory_limit(pool: ParsePool) -> None:
    stream = zlib.compress(b"(water) Tj " * (40 * MIB), 9)
    content = b"<</Length %d/Filter/FlateDecode>>stream\n%s\nendstream" % (len(stream), stream)
    body = b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>> endobj\n"
    body += b"2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>> endobj\n"
    body += b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Contents 4 0 R>> endobj\n"
    body += b"4 0 obj" + content + b" endobj\ntrailer<</Root 1 0 R>>\n%%EOF"
    with pytest.raises(Unreadable) as caught:
        await pool.run(job(body, "bomb.pdf"))
    assert caught.value.type in ("crashed", "out_of_memory"), "as the allocator of PDFium ends it"
    assert (await pool.run(job(b"Water flows."))).converter == "text"


def test_the_long_tail_is_read_offline_with_the_installed_model() -> None:
    """`unstructured` would fetch its tagger; ours is installed, so that nothing is fetched."""
    page = b"<html><body><h1>Pumps</h1><p>Water flows through the penstock every day.</p></body></html>"
    parsed = parse_longtail(page, Detected(FileType.HTML, "utf-8"))
    assert parsed.converter == "unstructured:html"
    assert [element.kind for element in parsed.elements] == [
        ElementKind.TITLE,
        ElementKind.PARAGRAPH,
    ]
    assert parsed.elements[1].heading_path == ("Pumps",)
