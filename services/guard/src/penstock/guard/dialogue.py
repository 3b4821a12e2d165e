"""The question and the answer gate. Pure: events in, verdicts out."""

from collections.abc import Iterable
from dataclasses import dataclass

from penstock.common.events import (
    NO_PLAN,
    AnswerDrafted,
    Finding,
    GuardAction,
    Passage,
    QuestionAsked,
    Turn,
    Verdict,
)
from penstock.guard.detection import Context, Source
from penstock.guard.documents import unplaced
from penstock.guard.engine import Engine, masked

MAX_QUESTION = 4_000
"""Characters of a question."""
STRATEGIES = frozenset({NO_PLAN})
"""What the planner can do; any other is refused by name."""


@dataclass(frozen=True, slots=True)
class Admission:
    """A question after its gate. `reason` is set when it is refused."""

    question: str
    conversation: tuple[Turn, ...]
    verdict: Verdict
    reason: str | None


@dataclass(frozen=True, slots=True)
class Release:
    """A sentence or an answer after its gate; `text` is what a person gets."""

    text: str
    verdict: Verdict
    withheld: bool


def admit(asked: QuestionAsked, engine: Engine) -> Admission:
    """Check that a question can be worked on, then screen it and its conversation."""
    problem = invalid(asked)
    if problem is not None:
        finding, reason = problem
        verdict = engine.verdict("question", [finding])
        return Admission(asked.question, asked.conversation, verdict, reason)
    context = Context("question")
    screening = engine.screen(asked.question, context)
    turns = [engine.screen(turn.content, context) for turn in asked.conversation]
    earlier = [finding for turn in turns for finding in unplaced(turn.findings)]
    verdict = engine.verdict("question", [*screening.findings, *earlier])
    return Admission(
        screening.text,
        tuple(
            turn.model_copy(update={"content": seen.text})
            for turn, seen in zip(asked.conversation, turns, strict=True)
        ),
        verdict,
        _refusal(verdict, engine),
    )


def invalid(asked: QuestionAsked) -> tuple[Finding, str] | None:
    """Why a question cannot be worked on at all, whatever it says."""
    length = len(asked.question)
    if asked.strategy not in STRATEGIES:
        reason = f"strategy {asked.strategy!r} is not available yet; use 'direct'"
        return _invalid("planner", "unknown_strategy"), reason
    if not asked.question.strip():
        return _invalid("question", "empty"), "question is empty; write what you want to know"
    if length > MAX_QUESTION:
        return _invalid("question", "too_long"), (
            f"question has {length:,} characters; the limit is {MAX_QUESTION:,}: shorten it"
        )
    return None


def release(drafted: AnswerDrafted, engine: Engine) -> Release:
    """Screen a drafted sentence, or the whole answer, against the passages it leans on."""
    context = Context("answer", sources(drafted), drafted.abstained)
    findings = engine.findings(drafted.text, context)
    verdict = engine.verdict("answer", findings)
    withheld = verdict.action is GuardAction.REFUSE
    text = engine.policy.withheld if withheld else masked(drafted.text, findings)
    return Release(text, verdict, withheld)


def sources(drafted: AnswerDrafted) -> tuple[Source, ...]:
    """The passages with the markers by which the answer's citations name them."""
    markers: dict[str, set[int]] = {}
    for citation in drafted.citations:
        markers.setdefault(citation.chunk_id, set()).add(citation.marker)
    return tuple(
        Source(_readable(passage), frozenset(markers.get(passage.chunk_id, ())))
        for passage in drafted.passages
    )


def _readable(passage: Passage) -> str:
    """Title and headings belong to what a passage says: answers name what they are about."""
    above: Iterable[str] = (passage.title or "", *passage.heading_path)
    return "\n".join([*(line for line in above if line), passage.text])


def _refusal(verdict: Verdict, engine: Engine) -> str | None:
    if verdict.action is not GuardAction.REFUSE:
        return None
    why = sorted({f.category for f in verdict.findings if f.action is GuardAction.REFUSE})
    named = ", ".join(category.replace("_", " ") for category in why)
    return f"{engine.policy.refusal} It looks like: {named}."


def _invalid(detector: str, category: str) -> Finding:
    return Finding(
        detector=detector, version="1", category=category, score=1.0, action=GuardAction.REFUSE
    )
