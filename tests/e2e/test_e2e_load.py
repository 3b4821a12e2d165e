"""Nothing is lost and nothing doubled, whichever process ends in the middle of a load."""

import asyncio
from dataclasses import dataclass, field
from itertools import cycle
from uuid import uuid4

import httpx
import pytest
from e2e_load import DOCUMENTS, CleanRun, Load, questions
from e2e_stack import SERVICES, Running

from penstock.client import Event, Penstock

TOGETHER = (
    ("ingest", "searcher"), ("guard-documents", "answerer"), ("embed", "guard-dialogue"),
    ("indexer", "api"),
)  # fmt: skip
"""One that documents pass through and one that they do not, twice as fast as one by one."""

pytestmark = [pytest.mark.connected, pytest.mark.timeout(600)]


async def test_a_clean_run_is_what_was_published(clean_run: CleanRun) -> None:
    """What the other runs are compared with: every chunk once, with its vector, found by its word."""
    chunks, found = clean_run.outcome.chunks, clean_run.outcome.found
    assert all(len(chunks[n]) == 2 or len(chunks[n]) > 64 for n in range(DOCUMENTS))
    for listed in chunks.values():
        assert [(version, ordinal, vectors) for version, ordinal, *_, vectors in listed] == [
            (1, ordinal, 1) for ordinal in range(len(listed))
        ]
    assert found == {n: sorted(text for _, _, text, *_ in chunks[n]) for n in found}
    assert len(found) > DOCUMENTS * 0.9
    for question, wanted in questions().items():
        abstained, text, citations = clean_run.answers[question]
        assert abstained == (wanted is None), question
        assert wanted is None or (wanted in text and citations), question


async def test_kill_9_of_every_process_in_the_middle_of_a_load(
    stack: Running, penstock: Penstock, clean_run: CleanRun
) -> None:
    """At the end every document is searchable exactly once, every job ended, the lag is zero."""
    restarts = stack.restarts
    load = await Load.begin(stack, penstock, "killed", portions=len(TOGETHER) + 1)
    for processes in TOGETHER:
        await load.go_on()
        for process in processes:
            stack.kill(process)
    await stack.ready_again(after=restarts + len(SERVICES))
    assert await load.outcome() == clean_run.outcome


async def test_kafka_and_postgres_killed_and_restarted_in_the_middle_of_a_load(
    stack: Running, penstock: Penstock, clean_run: CleanRun
) -> None:
    steps = (("kafka", stack.kill), ("postgres", stack.kill),
             ("kafka", stack.terminate), ("postgres", stack.terminate))  # fmt: skip
    load = await Load.begin(stack, penstock, "servers", portions=len(steps) + 1)
    for server, end in steps:
        await load.go_on()
        restarts = stack.restarts
        end(server)
        await stack.ready_again(after=restarts + 1)
    assert await load.outcome() == clean_run.outcome


@dataclass
class Asker:
    """Asks one question after the other and follows each to its end, as a careful client does: it
    sends again what got no answer, under the same key, and resumes a stream where it broke."""

    api: str
    collection: str
    followed: dict[str, tuple[str, list[Event]]] = field(default_factory=dict)
    """By job: the question, and what was streamed."""
    sent: int = 0

    async def ask(self, question: str) -> None:
        body = {"question": question, "collection": self.collection}
        headers = {"Idempotency-Key": uuid4().hex}
        self.sent += 1
        async with httpx.AsyncClient(base_url=self.api) as http, Penstock(self.api) as client:
            while True:
                try:
                    accepted = await http.post("/v1/questions", json=body, headers=headers)
                except httpx.TransportError:
                    await asyncio.sleep(0.1)
                    continue
                if accepted.status_code == 503:  # the process is there and still starting
                    await asyncio.sleep(float(accepted.headers["Retry-After"]))
                    continue
                assert accepted.status_code == 202, accepted.text
                break
            job = accepted.json()["id"]
            self.followed[job] = (question, [event async for event in client.job_events(job)])

    async def go_on_until(self, stop: asyncio.Event) -> None:
        for question in cycle(questions()):
            if stop.is_set():
                return
            await self.ask(question)


async def test_sigterm_under_load_loses_and_repeats_nothing_that_is_visible(
    stack: Running, penstock: Penstock, clean_run: CleanRun
) -> None:
    """Every service is stopped in order and started again, while documents are loaded and answers
    are streamed."""
    load = await Load.begin(stack, penstock, "stopped", portions=len(TOGETHER) + 1)
    askers = [Asker(stack.api, clean_run.load.collection) for _ in range(3)]
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as asking:
        for asker in askers:
            asking.create_task(asker.go_on_until(stop))
        for services in TOGETHER:
            await load.go_on()
            restarts = stack.restarts
            for service in services:
                stack.terminate(service)
            await stack.ready_again(after=restarts + len(services))
        stop.set()
    assert await load.outcome() == clean_run.outcome

    followed = {job: each for asker in askers for job, each in asker.followed.items()}
    assert len(followed) == sum(asker.sent for asker in askers) > len(SERVICES)
    for job, (question, events) in followed.items():
        ids = [int(event.id or 0) for event in events]
        assert ids == sorted(set(ids)), "no event twice, none out of turn"
        assert [event.event for event in events].count("end") == 1
        told = [
            (event.data["ask"], event.data["round"], event.data["sentence"])
            for event in events
            if event.event == "sentence"
        ]
        assert len(told) == len(set(told)), "no sentence twice"
        ended = await penstock.job(job)
        assert (ended.state, ended.attempt) == ("succeeded", 1)
        assert ended.result is not None
        abstained, text, _ = clean_run.answers[question]
        assert (ended.result["abstained"], ended.result["text"]) == (abstained, text)
