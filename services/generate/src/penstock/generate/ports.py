"""What the answerer needs: somebody who writes, a model to ask, a place for drafts."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from penstock.common.events import AnswerDrafted, Citation, Passage, PassageRetrieved, Usage
from penstock.common.failures import TransientError


class ModelAwayError(TransientError):
    """The model is away or busy; it asked to be left alone for `retry_after_s` seconds."""

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Written:
    """A piece of an answer: one sentence, or (`final`) all of it with every citation."""

    text: str
    citations: tuple[Citation, ...] = ()
    final: bool = False
    abstained: bool = False
    model: str = ""
    prompt: str | None = None
    usage: Usage | None = None


class Writer(Protocol):
    """Writes answers from passages: by quoting, or with a model."""

    def write(
        self, tenant: str, question: PassageRetrieved, passages: Sequence[Passage]
    ) -> AsyncIterator[Written]:
        """Sentences as they are ready, then exactly one final piece."""
        ...


@dataclass(frozen=True, slots=True)
class Message:
    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Completion:
    text: str
    usage: Usage


class ChatModel(Protocol):
    """Raises `ModelAwayError` when it is away or busy, `PermanentError` when it refuses."""

    @property
    def model(self) -> str: ...

    async def complete(self, messages: Sequence[Message], schema: dict[str, Any]) -> Completion:
        """The whole answer, JSON that should fit the schema."""
        ...

    def stream(
        self, messages: Sequence[Message], schema: dict[str, Any]
    ) -> AsyncIterator[str | Usage]:
        """The answer's text piece by piece, then what it used."""
        ...


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of a question before it is answered."""

    drafted: list[AnswerDrafted]
    """What was published for this (question, ask, round), the final one last; else empty."""
    live: list[Passage]
    """Its passages whose version has not been removed."""


class Drafts(Protocol):
    """Answers as drafted, kept so that a redelivery costs no model."""

    async def find(self, tenant: str, question: PassageRetrieved, job: str) -> Found: ...

    async def live(self, tenant: str, passages: Sequence[Passage]) -> list[Passage]:
        """The passages whose version has not been removed."""
        ...

    async def store(self, tenant: str, job: str, sentences: Sequence[AnswerDrafted]) -> bool:
        """Keep a draft; False when a document behind it has been removed meanwhile."""
        ...
