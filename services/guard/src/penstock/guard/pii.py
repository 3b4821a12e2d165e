"""Personal data by checksum and pattern: what is worth asking a recogniser, and what to believe.

The recognisers are Presidio's (`presidio.py`). Each costs tens of microseconds, so a text without
the characters that a kind of number must have never reaches them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from penstock.guard.detection import Context, Hit

MIN_SCORE = 0.4
"""Below it a pattern without context or checksum is noise (a nine-digit number is no passport)."""
NEARBY = 60
"""Characters in front of a match in which a context word counts."""
CONTEXT_BOOST = 0.35
"""What a context word adds; Presidio's own figure."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One entity type: the shape that makes it possible, and the words that make it likely."""

    entity: str
    possible: re.Pattern[str]
    context: tuple[str, ...] = ()


class Recogniser(Protocol):
    """Finds entities of one kind; `start`, `end` in code points."""

    @property
    def kind(self) -> Kind: ...

    def find(self, text: str) -> Sequence[Hit]: ...


_WORTH_A_LOOK = re.compile(r"\d{2}|@|::|\b(?:bc1|[13])[A-Za-z0-9]{25}")


class PiiDetector:
    """Asks the recognisers whose shape shows, weighs the words around, drops the overlapped."""

    name = "pii"
    version = "1"

    def __init__(
        self, recognisers: Sequence[Recogniser], names: "Recogniser | None" = None
    ) -> None:
        self._recognisers = recognisers
        self._names = names

    def scan(self, text: str, context: Context) -> list[Hit]:  # noqa: ARG002
        found: list[Hit] = []
        if _WORTH_A_LOOK.search(text):
            for recogniser in self._recognisers:
                if recogniser.kind.possible.search(text):
                    found += [weighed(hit, recogniser.kind, text) for hit in recogniser.find(text)]
        if self._names is not None:
            found += self._names.find(text)
        return strongest([hit for hit in found if hit.score >= MIN_SCORE])


def weighed(hit: Hit, kind: Kind, text: str) -> Hit:
    """The hit with its score raised when one of the kind's words stands in front of it."""
    before = text[max(0, hit.start - NEARBY) : hit.start].lower()
    if hit.score < 1 and any(word in before for word in kind.context):
        return Hit(hit.category, round(min(1.0, hit.score + CONTEXT_BOOST), 2), hit.start, hit.end)
    return hit


def strongest(hits: Sequence[Hit]) -> list[Hit]:
    """Without those that overlap a better one: by score, then length, then position."""
    kept: list[Hit] = []
    for hit in sorted(hits, key=lambda h: (-h.score, h.start - h.end, h.start, h.category)):
        if not any(hit.start < other.end and other.start < hit.end for other in kept):
            kept.append(hit)
    return sorted(kept, key=lambda h: h.start)
