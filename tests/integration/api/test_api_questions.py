"""Questions over HTTP: waited for, streamed, resumed, withdrawn, expired."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from penstock.common import events as e
from penstock.common.envelope import Envelope, Publication
from penstock.common.topics import (
    ANSWER_RELEASED,
    ANSWER_WITHHELD,
    JOB_PROGRESSED,
    QUESTION_REFUSED,
)

pytestmark = pytest.mark.connected

QUOTE = "The turbine delivers 4.2 megawatts."


def cites(document: str, version: int = 1) -> dict[str, Any]:
    """An answer's citation and passage of a document."""
    return {
        "citations": (
            e.Citation(
                marker=1, document_id=document, version=version, chunk_id="c1", quote=QUOTE,
                start=10, end=45, title="Turbines",
            ),
        ),
        "passages": (
            e.Passage(
                chunk_id="c1", document_id=document, version=version, text=QUOTE, score=0.5,
                rank=1, span=e.TextSpan(start=10, end=45),
            ),
        ),
    }  # fmt: skip


def answer(ask: int = 1, sentence: int = 0, *, final: bool, **more: Any) -> e.AnswerReleased:
    body = {"question": "How much?", "round": 0, "text": f"{QUOTE} [1]", "model": "extractive"}
    return e.AnswerReleased(**(body | more), ask=ask, sentence=sentence, final=final)


async def follow(world: Any, job: str, last: int | None = None) -> list[tuple[int, str, Any]]:
    """All events of a job until its stream ends: (id, event, data)."""
    headers = {"Last-Event-ID": str(last)} if last is not None else {}
    answered = await world.client.get(f"/v1/jobs/{job}/events", headers=headers)
    assert answered.headers["content-type"].startswith("text/event-stream")
    found = []
    for block in answered.text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if line)
        if "event" in lines:
            found.append((int(lines["id"]), lines["event"], orjson.loads(lines["data"])))
    return found


async def test_whoever_waits_gets_the_answer_with_its_sources(world: Any, name: str) -> None:
    """`Prefer: wait` returns as soon as the answer is released, citations point into the log."""
    await world.index(name, f"sub-{name}", offset=77)
    asked = asyncio.create_task(
        world.client.post(
            "/v1/questions",
            json={"question": f"How much? {name}", "top_k": 3},
            headers={"Prefer": "wait=15"},
        )
    )
    found: list[Any] = []
    while not found:
        found = await world.records("question.asked.v1", lambda r: name.encode() in r.value)
    body = e.QuestionAsked.model_validate_json(found[0].value)
    assert (body.top_k, body.ask, body.strategy) == (3, 1, "direct")
    job = found[0].key.decode().partition("/")[2]
    assert any(key == "ce_deadline" for key, _ in found[0].headers)
    await world.say(ANSWER_RELEASED, job, job, answer(final=True, **cites(name)))
    answered = await asked
    assert answered.status_code == 200
    assert answered.headers["preference-applied"] == "wait=15"
    result = answered.json()["result"]
    assert result["text"] == f"{QUOTE} [1]"
    (citation,) = result["citations"]
    assert citation["quote"] == QUOTE
    assert citation["source"] == {
        "topic": "document.submitted.v1", "partition": 1, "offset": 77,
    }  # fmt: skip
    assert result["abstained"] is False


async def test_a_stream_resumes_where_it_broke_off(world: Any, name: str) -> None:
    """Sentences come once each, in order, and `Last-Event-ID` leaves out what was seen."""
    await world.index(name, f"sub-{name}")
    job = await world.ask()
    following = asyncio.create_task(follow(world, job))
    await world.progress(job, e.Stage.ADMIT)
    for sentence in (0, 1, 1):
        body = answer(sentence=sentence, final=False, text=f"Sentence {sentence}.", **cites(name))
        await world.say(ANSWER_RELEASED, job, job, body)
    await world.say(ANSWER_RELEASED, job, job, answer(sentence=2, final=True, **cites(name)))
    events = await following
    kinds = [kind for _, kind, _ in events]
    assert kinds.count("sentence") == 2
    assert kinds[-1] == "end"
    texts = [data["text"] for _, kind, data in events if kind == "sentence"]
    assert texts == ["Sentence 0.", "Sentence 1."]
    first = next(id_ for id_, kind, _ in events if kind == "sentence")
    assert [id_ for id_, _, _ in await follow(world, job, first)] == [
        id_ for id_, _, _ in events if id_ > first
    ]
    assert await follow(world, job, events[-1][0]) == []


async def test_an_answer_that_cites_a_deleted_document_is_withdrawn(world: Any, name: str) -> None:
    """Asked once more, then abstained from; the sentences are retracted both times."""
    await world.index(name, f"sub-{name}")
    job = await world.ask()
    await world.say(ANSWER_RELEASED, job, job, answer(final=False, **cites(name)))
    await world.until(job, "running")
    await world.remove(name, f"del-{name}")
    await world.say(ANSWER_RELEASED, job, job, answer(sentence=1, final=True, **cites(name)))
    first, second = await world.of_job("question.asked.v1", job, 2)
    bodies = [e.QuestionAsked.model_validate_json(r.value) for r in (first, second)]
    assert sorted(body.ask for body in bodies) == [1, 2]
    late = answer(ask=1, sentence=1, final=True, text="late")
    await world.say(ANSWER_RELEASED, job, job, late)
    await world.say(ANSWER_RELEASED, job, job, answer(ask=2, final=True, **cites(name)))
    done = await world.until(job, "succeeded")
    assert done["result"]["text"] == "I don't know."
    assert done["result"]["abstained"] is True
    assert done["result"]["citations"] == done["result"]["passages"] == []
    events = await follow(world, job)
    assert [kind for _, kind, _ in events if kind != "progress"] == ["sentence", "retracted", "end"]
    assert QUOTE not in str(events)


async def test_a_finished_answer_loses_the_quotes_of_a_deleted_document(
    world: Any, name: str
) -> None:
    """A delete reaches what the API itself has kept, an undelivered webhook too."""
    await world.index(name, f"sub-{name}")
    job = await world.ask(callback_url=f"http://127.0.0.1:{world.hook_port}/nobody")
    await world.say(ANSWER_RELEASED, job, job, answer(final=False, **cites(name)))
    await world.say(ANSWER_RELEASED, job, job, answer(sentence=1, final=True, **cites(name)))
    assert QUOTE in (await world.until(job, "succeeded"))["result"]["text"]
    await world.remove(name, f"del-{name}")
    found = await world.get(f"/v1/jobs/{job}")
    assert QUOTE not in str(found)
    assert "deleted" in found["result"]["text"]
    assert QUOTE not in str(await follow(world, job))
    async with world.resources.database.transaction() as connection:
        tables = await connection.fetch(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'api'"
        )
        for (table,) in tables:
            rows = await connection.fetch(f"SELECT * FROM {table}")
            assert not [row for row in rows if name in str(row) and QUOTE in str(row)], table


async def test_a_withheld_answer_succeeds_with_what_a_person_gets_instead(
    world: Any, name: str
) -> None:
    """What was streamed is retracted, the verdicts say why, nothing is cited."""
    await world.index(name, f"sub-{name}")
    job = await world.ask()
    await world.say(ANSWER_RELEASED, job, job, answer(final=False, **cites(name)))
    verdict = e.Verdict(gate="answer", policy="default", action=e.GuardAction.REFUSE)
    body = e.AnswerWithheld(
        question="q", ask=1, round=0, sentence=1, final=True, text="This cannot be answered.",
        verdicts=(verdict,), **cites(name),
    )  # fmt: skip
    await world.until(job, "running")
    await world.say(ANSWER_WITHHELD, job, job, body)
    result = (await world.until(job, "succeeded"))["result"]
    assert (result["text"], result["abstained"], result["citations"]) == (
        "This cannot be answered.", True, [],
    )  # fmt: skip
    assert result["verdicts"][0]["action"] == "refuse"
    assert "retracted" in [kind for _, kind, _ in await follow(world, job)]


async def test_a_refused_question_fails_with_the_guards_reason(world: Any) -> None:
    """The person learns why."""
    job = await world.ask()
    verdict = e.Verdict(gate="question", policy="default", action=e.GuardAction.REFUSE)
    body = e.QuestionRefused(question="q", verdict=verdict, reason="it asks for a password")
    await world.say(QUESTION_REFUSED, job, job, body)
    done = await world.until(job, "failed")
    assert done["error"] == {"type": "refused", "message": "it asks for a password"}


async def test_a_question_ends_at_its_deadline(world: Any) -> None:
    """Nobody waits for ever, and a late answer changes nothing."""
    job = await world.ask(deadline_s=0.2)
    done = await world.until(job, "failed")
    assert done["error"]["type"] == "expired"
    assert "the stage admit" in done["error"]["message"], "there it waits"
    await world.say(ANSWER_RELEASED, job, job, answer(final=True))
    other = await world.ask()
    await world.say(ANSWER_RELEASED, other, other, answer(final=True, abstained=True))
    assert (await world.until(other, "succeeded"))["result"]["abstained"] is True
    assert (await world.get(f"/v1/jobs/{job}"))["state"] == "failed"


async def test_a_strategy_that_is_not_there_is_refused_by_name(world: Any) -> None:
    """Never silently answered another way."""
    answered = await world.client.post("/v1/questions", json={"question": "q", "strategy": "hyde"})
    assert answered.status_code == 422
    assert answered.json()["type"].endswith("/unsupported_strategy")
    assert "'hyde'" in answered.json()["detail"]


async def test_a_question_from_the_topic_ends_at_its_own_deadline(world: Any, name: str) -> None:
    """Nobody announced it over HTTP, and still it does not run for ever."""
    deadline = datetime.now(UTC) + timedelta(seconds=0.5)
    envelope = Envelope(id=name, tenant="default", job=name, subject=name, deadline=deadline)
    body = e.JobProgressed(stage=e.Stage.ADMIT, state=e.ProgressState.DONE)
    await world.publisher.publish(Publication(JOB_PROGRESSED, name, envelope, body))
    done = await world.until(name, "failed")
    assert (done["kind"], done["error"]["type"]) == ("question", "expired")
    assert "the stage plan" in done["error"]["message"]


async def test_an_answer_and_a_delete_at_the_same_moment_leave_no_quote(
    world: Any, name: str
) -> None:
    """Either the answer sees the delete, or the delete finds the answer: never neither."""
    names = [f"{name}-{n}" for n in range(10)]
    await asyncio.gather(*(world.index(one, f"sub-{one}") for one in names))
    jobs = {one: await world.ask() for one in names}

    async def answered(one: str) -> None:
        body = answer(final=True, **cites(one))
        await world.say(ANSWER_RELEASED, jobs[one], jobs[one], body)

    await asyncio.gather(
        *(answered(one) for one in names), *(world.remove(one, f"del-{one}") for one in names)
    )
    for job in jobs.values():
        await _settled(world, job)
        assert QUOTE not in str(await world.get(f"/v1/jobs/{job}"))


async def _settled(world: Any, job: str) -> None:
    """It has its answer, or was asked once more and has none yet."""
    while (await world.get(f"/v1/jobs/{job}"))["state"] != "succeeded":
        async with world.resources.database.transaction() as connection:
            if await connection.fetchval("SELECT ask FROM job WHERE id = $1", job) == 2:
                return
