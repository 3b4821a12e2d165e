"""A server that is away for a while costs time and nothing else: work waits, and goes on by itself."""

import asyncio
import os
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psutil
import pytest

from penstock.client import ApiError, Penstock
from penstock.common import topics
from penstock.common.envelope import Envelope, Publication
from penstock.common.events import DocumentSubmitted, QuestionAsked
from penstock.common.kafka import Publisher
from penstock.common.settings import KafkaSettings

pytestmark = pytest.mark.connected

AWAY_S = {"stalled": 6.0, "stopped": 10.0}
"""How long Postgres is away. Where it refuses, the pauses between attempts stop growing after 6 s, so
10 s meet every pause there is, the longest twice, and a minute adds nothing but more of that one.
Where it stalls, a query waits for its answer and a new connection for a minute: PENSTOCK_AWAY_S=62
runs both longer than that, and both pass."""

OWNERS = (
    "api", "ingest", "guard-documents", "guard-dialogue", "indexer", "searcher", "answerer",
)  # fmt: skip
"""Who stands on Postgres."""


@asynccontextmanager
async def away(stack: Any, how: str) -> AsyncIterator[None]:
    """Postgres takes connections and says nothing, or there is nobody at all."""
    if how == "stalled":
        with stack.stopped("postgres"):
            yield
        return
    supervisor = psutil.Process(stack.state["supervisor"]["pid"])
    supervisor.suspend()  # it would start Postgres again at once
    try:
        os.kill(stack.pid("postgres"), signal.SIGQUIT)
        yield
    finally:
        supervisor.resume()


async def say(stack: Any, *publications: Publication[Any]) -> None:
    publisher = Publisher("test", KafkaSettings(kafka=stack.kafka))
    await publisher.start()
    try:
        await publisher.publish(*publications)
    finally:
        await publisher.stop()


def document(name: str, text: str | None) -> Publication[Any]:
    """A submission, or with no text a delete, as a publisher of one's own sends it; its job is
    called as the document is."""
    body = DocumentSubmitted(text=text) if text is not None else None
    job = name if body else f"delete-{name}"
    envelope = Envelope(id=job, tenant="default", job=job, subject=name)
    return Publication(topics.DOCUMENT_SUBMITTED, f"default/{name}", envelope, body)


def question(job: str, text: str, seconds: float) -> Publication[Any]:
    deadline = datetime.now(UTC) + timedelta(seconds=seconds)
    envelope = Envelope(id=job, tenant="default", job=job, subject=job, deadline=deadline)
    return Publication(
        topics.QUESTION_ASKED, f"default/{job}", envelope, QuestionAsked(question=text)
    )


async def ended(penstock: Penstock, job: str) -> Any:
    try:
        found = await penstock.job(job)
    except ApiError as error:
        if error.status not in (404, 503):
            raise
        return None
    return found if found.ended else None


async def letters(penstock: Penstock) -> set[str]:
    return {letter["id"] async for letter in penstock.dead_letters()}


async def readiness(stack: Any, process: str) -> tuple[int, dict[str, Any]]:
    port = stack.state["processes"][process]["port"]
    async with httpx.AsyncClient(timeout=10) as http:
        answer = await http.get(f"http://127.0.0.1:{port}/readyz")
        return answer.status_code, answer.json()


async def publish_over_http(stack: Any, name: str) -> httpx.Response:
    """Always as the same request: however often it is sent, it makes one job."""
    body = {"documents": [{"id": name, "text": f"The {name} gate is red."}]}
    once = {"Idempotency-Key": name}
    async with httpx.AsyncClient(base_url=stack.api, headers=once, timeout=180) as http:
        return await http.post("/v1/documents", json=body)


async def together(
    until: Callable[..., Any], condition: Callable[[str], Awaitable[bool]], timeout_s: float
) -> None:
    """Until it holds for every process that stands on Postgres."""
    await asyncio.gather(*(until(partial(condition, process), timeout_s) for process in OWNERS))


@dataclass(frozen=True)
class Work:
    """What is there before Postgres goes, and what comes in while it is away."""

    run: str
    away_s: float

    def id(self, kind: str) -> str:
        """Of a document or a question."""
        return f"{kind}-{self.run}"

    @property
    def new(self) -> list[str]:
        return [f"new-{self.run}-{number}" for number in range(12)]

    async def prepare(self, penstock: Penstock) -> None:
        texts = [
            {"id": one, "text": f"The {one} gate is green."}
            for one in (self.id("old"), self.id("kept"))
        ]
        job = await penstock.submit_documents(texts)
        assert (await penstock.wait(job.id)).state == "succeeded"

    async def come_in(self, stack: Any) -> None:
        """Over the topics; the hasty question's deadline passes before Postgres is back."""
        asked = f"Which colour has the {self.id('kept')} gate?"
        await say(
            stack,
            *(document(name, f"The {name} gate is blue.") for name in self.new),
            document(self.id("old"), None),
            question(self.id("hasty"), asked, self.away_s / 2),
            question(self.id("patient"), asked, self.away_s + 90),
        )

    async def is_done(self, stack: Any, penstock: Penstock, until: Callable[..., Any]) -> None:
        for name in (*self.new, f"delete-{self.id('old')}", self.id("patient")):
            found = await until(lambda name=name: ended(penstock, name), 120)
            assert found.state == "succeeded", (name, found)
        late = await until(lambda: ended(penstock, self.id("hasty")), 60)
        assert (late.state, late.error.type) == ("failed", "expired")
        assert "deadline" in late.error.message
        assert (await penstock.document(self.id("old"))).state == "removed"
        assert "green" in str((await penstock.job(self.id("patient"))).result)
        query = "SELECT document FROM retrieve.chunk WHERE document LIKE $1"
        async with stack.database() as db:
            rows = await db.fetch(query, f"%{self.run}%")
        there = Counter(row["document"] for row in rows)
        assert there == Counter([*self.new, self.id("kept"), self.id("http")])


@pytest.mark.timeout(400)
@pytest.mark.parametrize("how", ["stalled", "stopped"])
async def test_postgres_away_loses_nothing_and_needs_nobody(
    stack: Any, penstock: Penstock, until: Callable[..., Any], how: str
) -> None:
    """Documents, deletes and questions come in meanwhile, over the topics and over HTTP. Every process
    says that it waits for Postgres; afterwards each job ends as if nothing had been, but for the
    question whose deadline has passed, which says so, and nothing lies among the dead letters."""
    away_s = float(os.environ.get("PENSTOCK_AWAY_S", AWAY_S[how]))
    work = Work(f"{how}-{uuid4().hex[:6]}", away_s)
    await work.prepare(penstock)
    before = await letters(penstock)

    async def named(process: str) -> bool:
        status, said = await readiness(stack, process)
        return status == 503 and "Postgres" in said["reason"]

    async def ready(process: str) -> bool:
        return (await readiness(stack, process))[0] == 200

    async with away(stack, how):
        over = asyncio.get_running_loop().time() + away_s
        await work.come_in(stack)
        request = asyncio.create_task(publish_over_http(stack, work.id("http")))
        await together(until, named, 30)
        while asyncio.get_running_loop().time() < over:
            await asyncio.sleep(0.2)
        if how == "stopped":
            assert (await request).status_code == 503
    await together(until, ready, 60)
    again = (await publish_over_http(stack, work.id("http"))).json()["id"]
    if (await request).status_code == 503:  # at once, or after a minute of silence
        assert (await request).headers["retry-after"] == "1"
    else:
        assert (await request).json()["id"] == again, "it was taken after all, and once"
    assert (await until(lambda: ended(penstock, again), 60)).state == "succeeded"
    await work.is_done(stack, penstock, until)
    assert await letters(penstock) == before


# ---------------------------------------------------------------- the embedding server


@asynccontextmanager
async def on_triton(stack: Any, address: str, until: Callable[..., Any]) -> AsyncIterator[None]:
    """For a while, embed and searcher have their vectors from a Triton server at this address."""
    settings = stack.folder / "settings.env"
    kept = settings.read_text() if settings.exists() else None
    lines = ("EMBED_BACKEND=triton", f"TRITON={address}", "TRITON_TIMEOUT_S=2")
    settings.write_text((kept or "") + "".join(f"\nPENSTOCK_{line}" for line in lines) + "\n")
    try:
        await restarted(stack, until)
        yield
    finally:
        settings.write_text(kept or "")
        await restarted(stack, until)


async def restarted(stack: Any, until: Callable[..., Any]) -> None:
    """A process reads its settings when it starts."""
    before = {process: stack.pid(process) for process in ("embed", "searcher")}
    for process in before:
        stack.kill(process)

    async def again() -> bool:
        states = {process: stack.state["processes"][process] for process in before}
        return all(s["state"] == "ready" and s["pid"] != before[p] for p, s in states.items())

    await until(again, 90)


@pytest.mark.timeout(300)
async def test_an_embedding_server_that_refuses_then_hangs_is_waited_for(
    stack: Any, penstock: Penstock, until: Callable[..., Any], tritonserver: Any
) -> None:
    """A real tritonserver. Documents wait; a search is told within seconds what is away, one for words
    alone is answered; a question ends with its deadline, and names the stage; then all goes on."""
    tritonserver.environment()
    await asyncio.to_thread(tritonserver.stop)  # another test may have had it running
    run = uuid4().hex[:6]
    before = await letters(penstock)
    async with on_triton(stack, tritonserver.address, until):
        refused = await meanwhile(stack, penstock, until, f"refused-{run}")
        await asyncio.to_thread(tritonserver.start)
        await finish(penstock, until, refused)
        tritonserver.stall()
        try:
            hanging = await meanwhile(stack, penstock, until, f"hanging-{run}")
        finally:
            tritonserver.go_on()
        await finish(penstock, until, hanging)
        async with asyncio.timeout(60):
            answer = await penstock.ask(f"Which colour has the hanging-{run}-0 lock?")
        assert "grey" in answer.text
    assert await letters(penstock) == before


async def meanwhile(
    stack: Any, penstock: Penstock, until: Callable[..., Any], name: str
) -> list[str]:
    """What happens while it is away; the jobs that wait for it."""
    documents = [{"id": f"{name}-{n}", "text": f"The {name}-{n} lock is grey."} for n in range(3)]
    jobs = [(await penstock.submit_documents([one])).id for one in documents]
    question = await penstock.submit_question(f"Which colour has {name}?", deadline_s=4)
    with pytest.raises(ApiError, match="Triton is away or busy") as caught:
        await penstock.search("lock")
    assert (caught.value.status, caught.value.type) == (503, "unavailable")
    await penstock.search("lock", mode="lexical")

    async def named() -> bool:
        status, said = await readiness(stack, "embed")
        return status == 503 and "Triton" in said["reason"]

    await until(named, 30)
    status, _ = await readiness(stack, "searcher")
    assert status == 200, "it still serves what needs no vector"
    late = await until(lambda: ended(penstock, question.id), 30)
    assert (late.state, late.error.type) == ("failed", "expired")
    assert "search" in late.error.message
    assert [await ended(penstock, job) for job in jobs] == [None] * len(jobs)
    return jobs


async def finish(penstock: Penstock, until: Callable[..., Any], jobs: list[str]) -> None:
    for job in jobs:
        found = await until(lambda job=job: ended(penstock, job), 60)
        assert found.state == "succeeded", found


# ---------------------------------------------------------------- the blob store's disk


@contextmanager
def small_disk(folder: Path) -> Iterator[Callable[[], None]]:
    """A disk of 64 KB in the place of the folder; call what it gives to make it larger."""

    def mount(*options: str) -> subprocess.CompletedProcess[str]:
        command = ["mount", *options, str(folder)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def grow() -> None:
        done = mount("-o", "remount,size=16m")
        assert done.returncode == 0, done.stderr

    made = mount("-t", "tmpfs", "-o", "size=64k", "tmpfs")
    if made.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {made.stderr.strip()}")
    try:
        yield grow
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def test_a_full_disk_loses_no_document(
    stack: Any, penstock: Penstock, until: Callable[..., Any], tmp_path: Path
) -> None:
    """An upload is told to come back, and leaves nothing behind; what came by the topic waits, and
    becomes searchable once there is room."""
    run = uuid4().hex[:6]
    text = f"The {run} pond is deep.\n\n" + "It is deep indeed, whoever looks into it. " * 2_500
    file = tmp_path / f"uploaded-{run}.txt"
    file.write_text(text)
    before, blobs = await letters(penstock), stack.folder / "blobs"
    with small_disk(blobs) as grow:
        await say(stack, document(f"topic-{run}", text))

        async def named() -> bool:
            status, said = await readiness(stack, "ingest")
            return status == 503 and "No space left" in said["reason"]

        await until(named, 30)
        with pytest.raises(ApiError, match="No space left") as caught:
            await penstock.upload({file.name: file})
        assert (caught.value.status, caught.value.type) == (503, "unavailable")
        assert [path for path in blobs.rglob("*") if path.is_file()] == []
        grow()
        job = await penstock.upload({file.name: file})
        await finish(penstock, until, [f"topic-{run}", job.id])
        found = await penstock.search(f"{run} pond", mode="lexical", top_k=50)
        assert {p.document_id for p in found.passages} >= {f"topic-{run}", file.name}
    assert await letters(penstock) == before
