"""Two of every process do what one does, also while one is added, taken away or killed."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from e2e_load import CleanRun, Load, questions
from e2e_stack import SERVICES, Running

from penstock.client import Penstock

pytestmark = [pytest.mark.connected, pytest.mark.timeout(600)]

STAGES = ("ingest", "guard-documents", "embed", "indexer")
"""What documents pass through."""


async def scale(stack: Running, services: tuple[str, ...], count: int) -> list[dict[str, object]]:
    counts = [f"{service}={count}" for service in services]
    return list(await asyncio.to_thread(stack.json, "scale", *counts))


@pytest.fixture(scope="module")
async def two(stack: Running) -> AsyncIterator[Running]:
    """The stack with two of everything."""
    before = stack.state["scale"]["embed"]
    done = await scale(stack, SERVICES, 2)
    assert [one["processes"] for one in done] == [[name, f"{name}-2"] for name in SERVICES]
    yield stack
    await scale(stack, SERVICES, before)


async def test_a_load_with_one_added_one_taken_away_and_one_of_each_killed(
    two: Running, penstock: Penstock, clean_run: CleanRun
) -> None:
    restarts = two.restarts
    load = await Load.begin(two, penstock, "two", portions=4)
    await load.go_on()
    grown = await scale(two, STAGES, 3)
    assert [one["now"] for one in grown] == [3] * len(STAGES)
    await load.go_on()
    for number, process in enumerate(SERVICES):
        two.kill(process if number % 2 else f"{process}-2")
    await load.go_on()
    await scale(two, STAGES, 2)
    await two.ready_again(after=restarts + len(SERVICES))
    assert await load.outcome() == clean_run.outcome


async def test_questions_are_answered_as_by_one_of_each_at_either_address(
    two: Running, clean_run: CleanRun
) -> None:
    ports = [two.state["processes"][name]["port"] for name in ("api", "api-2")]
    assert two.api == f"http://127.0.0.1:{ports[0]}"
    async with (
        Penstock(f"http://127.0.0.1:{ports[0]}") as one,
        Penstock(f"http://127.0.0.1:{ports[1]}") as other,
    ):
        answers = await asyncio.gather(*map(clean_run.load.answers, (one, other)))
        job = await one.submit_question(
            next(iter(questions())), collection=clean_run.load.collection
        )
        events = [event.event async for event in other.job_events(job.id)]
    assert answers == [clean_run.answers, clean_run.answers]
    assert events[-1] == "end"
    assert "sentence" in events, "what one of them took in can be followed at the other"
