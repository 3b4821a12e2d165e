"""The bodies of the question and answer topics."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from penstock.common.events.values import Event, Finding, JsonObject, TextSpan, Verdict

NO_PLAN = "direct"
"""The strategy that searches for the question as it is: nothing is planned."""


class Turn(Event):
    role: Literal["user", "assistant"]
    content: str


class QuestionEvent(Event):
    """What every event of a question carries; the question's id is the envelope's job."""

    question: str
    conversation: tuple[Turn, ...] = ()
    groups: tuple[str, ...] = ()
    filter: JsonObject = Field(default_factory=dict)
    collection: str = "default"
    top_k: int = Field(default=6, ge=1, le=50)
    strategy: str = NO_PLAN
    ask: int = 1
    """Counts whole attempts: asked again when an answer cited what was removed meanwhile."""
    round: int = 0
    """Counts plans within one ask: evidence too thin, plan again, at most twice."""
    timings_ms: dict[str, float] = Field(default_factory=dict)


class QuestionAsked(QuestionEvent):
    """As submitted, by the API or straight to the topic."""


class QuestionAdmitted(QuestionEvent):
    verdict: Verdict | None = None


class QuestionRefused(QuestionEvent):
    verdict: Verdict
    reason: str


class QuestionPlanned(QuestionEvent):
    searches: tuple[str, ...] = ()
    """What to search for; empty: the question as it is."""


class Passage(Event):
    """A chunk as retrieved evidence. Ranks count from 1; a leg that missed it has none."""

    chunk_id: str
    document_id: str
    version: int
    title: str | None = None
    text: str
    span: TextSpan
    page: int | None = None
    heading_path: tuple[str, ...] = ()
    metadata: JsonObject = Field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    score: float
    rank: int
    dense_rank: int | None = None
    lexical_rank: int | None = None
    dense_score: float | None = None
    """Cosine similarity to the query."""


class PassageRetrieved(QuestionEvent):
    passages: tuple[Passage, ...]


class Citation(Event):
    """What a marker in the answer points to; `quote` is the document's text at start..end."""

    marker: int
    document_id: str
    version: int
    chunk_id: str
    quote: str
    start: int
    end: int
    title: str | None = None


class Usage(Event):
    model: str
    input_tokens: int = 0
    output_tokens: int = 0


class AnswerEvent(Event):
    """One sentence of an answer, or (`final`) the whole of it.

    Sentences of one (ask, round) are numbered from 0; the final one carries the complete text,
    all citations, and the passages the answer was written from.
    """

    question: str
    collection: str = "default"
    """Of the question: names the guard policy that the answer is judged by."""
    ask: int
    round: int
    sentence: int
    final: bool
    text: str
    citations: tuple[Citation, ...] = ()
    passages: tuple[Passage, ...] = ()
    """A sentence carries the passages it cites, the final event all that were considered."""
    abstained: bool = False
    model: str = ""
    prompt: str | None = None
    usage: Usage | None = None
    verdicts: tuple[Verdict, ...] = ()
    timings_ms: dict[str, float] = Field(default_factory=dict)


class AnswerDrafted(AnswerEvent):
    """From the answerer, not yet seen by guard."""


class AnswerReleased(AnswerEvent):
    """Passed by guard."""


class AnswerWithheld(AnswerEvent):
    """Stopped by guard; `text` is the sentence a person gets instead."""


class UsageRecorded(Event):
    usage: Usage
    purpose: str
    at: datetime
