"""A document is deleted between the draft of an answer and its release."""

from typing import Any
from uuid import uuid4

import pytest

from penstock.common.topics import ANSWER_DRAFTED, QUESTION_ASKED

pytestmark = pytest.mark.connected


async def events_of(pipeline: Any, job: str) -> list[tuple[str, dict[str, Any]]]:
    """What somebody who follows the job is told, progress aside."""
    return [
        (event.event, event.data)
        async for event in pipeline.penstock.job_events(job)
        if event.event != "progress"
    ]


async def asked_and_deleted(pipeline: Any, question: str) -> tuple[str, str]:
    """The job of a question whose answer is drafted and streamed, and the document it cites, gone."""
    gate = pipeline.gate("guard-dialogue", ANSWER_DRAFTED)
    drafts: list[Any] = []

    def is_final(record: Any) -> bool:
        if record.value.question == question and record.value.final:
            drafts.append(record.value)
        return record.value in drafts

    with gate.holding(is_final) as drafted:
        asked = await pipeline.penstock.submit_question(question, deadline_s=60)
        job = asked.id
        await drafted.wait()

        async def streamed() -> Any:
            return await pipeline.rows(
                "SELECT id FROM api.job_event WHERE job = $1 AND kind = 'sentence'", job
            )

        await pipeline.until(streamed)
        (document,) = {citation.document_id for citation in drafts[0].citations}
        removal = await pipeline.penstock.delete_document(document)
        receipt = await pipeline.penstock.wait(removal.id, timeout_s=40)
        assert receipt.state == "succeeded"
    return job, document


async def asks(pipeline: Any, job: str) -> int:
    ((ask,),) = await pipeline.rows("SELECT ask FROM api.job WHERE id = $1", job)
    return int(ask)


async def test_an_answer_from_a_document_deleted_before_its_release_is_withdrawn(
    pipeline: Any,
) -> None:
    """Sentences that were streamed are retracted, it is asked again once, and abstained from."""
    town = f"Korv{uuid4().hex[:6]}"
    fact = f"The {town} turbine delivers 4.2 megawatts since its overhaul in 2019."
    given = {"id": f"race-{town}", "text": fact}
    submitted = await pipeline.penstock.submit_documents([given])
    assert (await pipeline.ended(submitted.id)).state == "succeeded"

    question = f"How many megawatts does the {town} turbine deliver?"
    job, _ = await asked_and_deleted(pipeline, question)

    ended = await pipeline.ended(job)
    assert (ended.state, await asks(pipeline, job)) == ("succeeded", 2)
    assert ended.result["abstained"]
    assert not [p for p in ended.result["passages"] if p["document_id"] == given["id"]]
    told = await events_of(pipeline, job)
    assert [kind for kind, _ in told] == ["sentence", "retracted", "end"]
    assert given["id"] in told[1][1]["reason"]
    assert await pipeline.holding(f"{town} turbine delivers") == set()


async def test_asked_again_it_is_answered_from_what_is_left(pipeline: Any) -> None:
    """Another document says the same: the second answer cites that one, and only that one."""
    town = f"Milt{uuid4().hex[:6]}"
    fact = f"The {town} turbine delivers 4.2 megawatts since its overhaul in 2019."
    copies = [{"id": f"race-{town}-{n}", "text": f"{fact} This is copy {n}."} for n in (1, 2)]
    submitted = await pipeline.penstock.submit_documents(copies)
    assert (await pipeline.ended(submitted.id)).state == "succeeded"
    question = f"How many megawatts does the {town} turbine deliver?"

    job, deleted = await asked_and_deleted(pipeline, question)

    ended = await pipeline.ended(job)
    assert (ended.state, await asks(pipeline, job)) == ("succeeded", 2)
    assert not ended.result["abstained"]
    left = {copy["id"] for copy in copies} - {deleted}
    assert {c["document_id"] for c in ended.result["citations"]} == left
    kinds = [kind for kind, _ in await events_of(pipeline, job)]
    assert kinds[-1] == "end"
    assert kinds.index("retracted") > kinds.index("sentence")
    assert "sentence" in kinds[kinds.index("retracted") :], "the new one is streamed as well"


async def test_a_question_cancelled_while_it_is_asked_again_stays_cancelled(pipeline: Any) -> None:
    """The second answer finds nobody who waits for it."""
    town = f"Sall{uuid4().hex[:6]}"
    given = {"id": f"race-{town}", "text": f"The {town} weir is 312 metres long."}
    submitted = await pipeline.penstock.submit_documents([given])
    assert (await pipeline.ended(submitted.id)).state == "succeeded"
    question = f"How long is the {town} weir?"
    again = pipeline.gate("guard-dialogue", QUESTION_ASKED)
    with again.holding(lambda r: r.value.question == question and r.value.ask == 2) as reached:
        job, _ = await asked_and_deleted(pipeline, question)
        await reached.wait()
        await pipeline.penstock.cancel_job(job)
    ended = await pipeline.ended(job)
    assert ended.state == "cancelled"
    assert ended.result is None
