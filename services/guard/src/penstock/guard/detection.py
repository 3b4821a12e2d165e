"""What every detector gets and gives."""

from dataclasses import dataclass
from typing import Literal, Protocol

Gate = Literal["document", "question", "answer"]


@dataclass(frozen=True, slots=True)
class Hit:
    """Something a detector saw at `start`..`end` (code points) of the text it was given."""

    category: str
    score: float
    """0 (nothing) to 1 (certain); for every detector a higher score is the worse one."""
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Source:
    """A passage that an answer may lean on, and the markers by which the answer names it."""

    text: str
    markers: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Context:
    """Where the text comes from. `sources` are set for answers alone."""

    gate: Gate
    sources: tuple[Source, ...] = ()
    abstained: bool = False


class Detector(Protocol):
    """Pure and fast: text in, hits out. `version` changes whenever its answers may."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    def scan(self, text: str, context: Context) -> list[Hit]: ...
