"""From the pieces a writer hands over to the events that are published."""

from collections.abc import Sequence

from penstock.common.events import AnswerDrafted, Passage, PassageRetrieved
from penstock.generate.ports import Written

MAX_ANSWER_BYTES = 200 * 1024
"""An answer with its passages stays below this, so that the verdicts it gathers fit as well."""


def sentence_event(
    question: PassageRetrieved, number: int, piece: Written, passages: Sequence[Passage]
) -> AnswerDrafted:
    """One sentence, with the passages it cites."""
    cited = {citation.chunk_id for citation in piece.citations}
    return _event(question, number, piece, [p for p in passages if p.chunk_id in cited], {})


def final_event(
    question: PassageRetrieved,
    number: int,
    piece: Written,
    passages: Sequence[Passage],
    elapsed_ms: float,
) -> AnswerDrafted:
    """The whole answer with all passages; the last uncited ones go when it grows too large."""
    timings = {**question.timings_ms, "answer": round(elapsed_ms, 1)}
    cited = {citation.chunk_id for citation in piece.citations}
    kept = list(passages)
    sizes = {p.chunk_id: len(p.model_dump_json().encode()) for p in kept}
    bare = _event(question, number, piece, (), timings)
    total = len(bare.model_dump_json().encode()) + sum(sizes.values())
    for passage in reversed(passages):
        if total <= MAX_ANSWER_BYTES:
            break
        if passage.chunk_id not in cited:
            kept.remove(passage)
            total -= sizes[passage.chunk_id]
    return bare.model_copy(update={"passages": tuple(kept)})


def _event(
    question: PassageRetrieved,
    number: int,
    piece: Written,
    passages: Sequence[Passage],
    timings: dict[str, float],
) -> AnswerDrafted:
    return AnswerDrafted(
        question=question.question,
        collection=question.collection,
        ask=question.ask,
        round=question.round,
        sentence=number,
        final=piece.final,
        text=piece.text,
        citations=piece.citations,
        passages=tuple(passages),
        abstained=piece.abstained,
        model=piece.model,
        prompt=piece.prompt,
        usage=piece.usage,
        timings_ms=timings,
    )
