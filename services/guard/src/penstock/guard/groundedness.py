"""Is a sentence of an answer carried by its passages? Words, numbers, names and negations alone.

No model: a claim is compared with the passage sentences that it resembles most. This finds what
was added or swapped; it does not understand a paraphrase, and says so by a middling score.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from penstock.guard.detection import Context, Hit, Source
from penstock.guard.words import MARKER, OPPOSITE, negated, plain_stems, sentences, tokens

_ENOUGH = 0.4
"""Share of a claim's words that must be known for full credit; the rest may be paraphrase."""
_NAMES, _NEGATION, _OPPOSITION = 0.7, 0.3, 0.2
"""What each mismatch takes away; chosen, with the policy's threshold, on one half of SummEdits."""
_CHECKABLE = 2
"""A sentence of fewer content words, none a number or name ("Yes, it does."), claims nothing new."""
_WINDOW = 2
"""Up to so many neighbouring source sentences are read as one, since a summary joins them."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """How a claim stands against its sources; every figure is a share from 0 to 1."""

    covered: float
    """Weight of the claim's words that occur anywhere in the sources."""
    nearby: float
    """The same within the best window of source sentences."""
    pairs: float
    """Neighbouring content words of the claim that are neighbours in the sources too."""
    names: float
    """Numbers and names that occur in the sources; 1 when the claim has none."""
    negation: float
    """1 when claim and best window agree on being negated, else 0."""
    opposition: float
    """0 when the best window says the opposite of a word that it lacks, else 1."""

    @property
    def groundedness(self) -> float:
        """0 (nothing of it is in the sources) to 1 (nothing speaks against it)."""
        mismatch = (
            _NAMES * (1 - self.names)
            + _NEGATION * (1 - self.negation)
            + _OPPOSITION * (1 - self.opposition)
        )
        return min(1.0, self.covered / _ENOUGH) * max(0.0, 1 - mismatch)


class GroundednessDetector:
    """One hit per sentence that its sources do not carry; the score is 1 - groundedness.

    A sentence with markers is held against the sources that bear them, any other against all.
    """

    name = "groundedness"
    version = "1"

    def scan(self, text: str, context: Context) -> list[Hit]:
        if context.gate != "answer" or context.abstained:
            return []
        hits = []
        for start, end in sentences(text):
            sentence = text[start:end]
            found = evidence(MARKER.sub("", sentence), _cited(sentence, context.sources))
            if found is not None and found.groundedness < 1:
                stripped = start + len(sentence.rstrip())
                score = round(1 - found.groundedness, 4)
                hits.append(Hit("ungrounded", score, start, stripped))
        return hits


def _cited(sentence: str, sources: Sequence[Source]) -> list[str]:
    markers = {int(match[1]) for match in MARKER.finditer(sentence)}
    named = [source.text for source in sources if source.markers & markers]
    return named or [source.text for source in sources]


@dataclass(frozen=True, slots=True)
class _Window:
    stems: frozenset[str]
    words: frozenset[str]
    negated: bool


@dataclass(frozen=True, slots=True)
class _Index:
    stems: frozenset[str]
    pairs: frozenset[tuple[str, str]]
    windows: tuple[_Window, ...]


_NOTHING = _Window(frozenset(), frozenset(), negated=False)


@lru_cache(maxsize=256)
def _index(source: str) -> _Index:
    parts = [source[start:end] for start, end in sentences(source)]
    worded = [[token.stem for token in tokens(part)] for part in parts]
    negations = [negated(part) for part in parts]
    words = [plain_stems(part) for part in parts]
    windows = tuple(
        _Window(
            frozenset().union(*worded[i : i + size]),
            frozenset().union(*words[i : i + size]),
            any(negations[i : i + size]),
        )
        for size in range(1, _WINDOW + 1)
        for i in range(len(parts) + 1 - size)
    )
    pairs = {
        (stems[i], later)
        for stems in worded
        for i in range(len(stems))
        for later in stems[i + 1 : i + 4]
    }
    return _Index(frozenset().union(*worded), frozenset(pairs), windows)


def evidence(claim: str, sources: Iterable[str]) -> Evidence | None:
    """None when the claim has too few content words for there to be anything to check."""
    wanted = tokens(claim)
    special = [token for token in wanted if token.weight > 1]
    if not special and len(wanted) < _CHECKABLE:
        return None
    indexes = [_index(source) for source in sources]
    stems = frozenset().union(*(index.stems for index in indexes))
    pairs = frozenset().union(*(index.pairs for index in indexes))
    windows = [window for index in indexes for window in index.windows]
    total = sum(token.weight for token in wanted)

    def share(known: frozenset[str]) -> float:
        return sum(token.weight for token in wanted if token.stem in known) / total

    # Of equals the first, so a single sentence that carries the claim goes before a pair.
    best = max(windows, key=lambda window: share(window.stems), default=_NOTHING)
    said = plain_stems(claim)
    opposed = any(
        OPPOSITE.get(word, frozenset()) & (best.words - said) for word in said - best.words
    )
    neighbours = list(itertools.pairwise(wanted))
    return Evidence(
        covered=share(stems),
        nearby=share(best.stems),
        pairs=_mean([(a.stem, b.stem) in pairs for a, b in neighbours]),
        names=_mean([token.stem in stems for token in special]),
        negation=float(negated(claim) == best.negated),
        opposition=float(not opposed),
    )


def _mean(truths: Sequence[bool]) -> float:
    return sum(truths) / len(truths) if truths else 1.0
