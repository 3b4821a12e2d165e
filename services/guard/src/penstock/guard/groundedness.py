"""Is a sentence of an answer carried by its passages? Words, numbers, names and negations alone.

No model: a claim is compared with the passage sentences that it resembles most. This finds what
was added or swapped; it does not understand a paraphrase, and says so by a middling score.
"""

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from penstock.guard.detection import Context, Hit, Source

_WORD = re.compile(r"[A-Za-zÀ-ɏ]+(?:['’-][A-Za-zÀ-ɏ]+)*|\d+(?:[.,:]\d+)*%?")
MARKER = re.compile(r"\s?\[(\d{1,3})\]")
_SENTENCE_END = re.compile(
    r"(?<=[.!?])[\"')\]]*(?:\s?\[\d{1,3}\])*\s+(?=[A-Z0-9\"'(])|(?<=\])\s+(?=[A-Z])|\n+"
)
_STOP = frozenset(
    [
        "a",
        "an",
        "the",
        "and",
        "or",
        "but",
        "if",
        "then",
        "than",
        "that",
        "this",
        "these",
        "those",
        "there",
        "here",
        "of",
        "in",
        "on",
        "at",
        "by",
        "for",
        "from",
        "to",
        "with",
        "as",
        "into",
        "over",
        "under",
        "about",
        "between",
        "through",
        "during",
        "before",
        "after",
        "above",
        "below",
        "up",
        "down",
        "out",
        "off",
        "is",
        "are",
        "was",
        "were",
        "be",
        "been",
        "being",
        "am",
        "do",
        "does",
        "did",
        "doing",
        "have",
        "has",
        "had",
        "having",
        "will",
        "would",
        "shall",
        "should",
        "can",
        "could",
        "may",
        "might",
        "must",
        "it",
        "its",
        "he",
        "she",
        "they",
        "them",
        "his",
        "her",
        "their",
        "theirs",
        "we",
        "our",
        "you",
        "your",
        "i",
        "me",
        "my",
        "who",
        "whom",
        "which",
        "what",
        "when",
        "where",
        "why",
        "how",
        "all",
        "any",
        "both",
        "each",
        "few",
        "more",
        "most",
        "other",
        "some",
        "such",
        "own",
        "same",
        "so",
        "too",
        "very",
        "just",
        "also",
        "only",
        "one",
        "s",
        "t",
        "re",
        "ve",
        "ll",
        "d",
        "m",
        "said",
        "says",
        "say",
        "while",
        "because",
        "until",
        "against",
        "however",
    ]
)
_NEGATIONS = frozenset(
    [
        "no",
        "not",
        "never",
        "none",
        "nobody",
        "nothing",
        "neither",
        "nor",
        "without",
        "cannot",
        "can't",
        "won't",
        "don't",
        "doesn't",
        "didn't",
        "isn't",
        "aren't",
        "wasn't",
        "weren't",
        "hasn't",
        "haven't",
        "hadn't",
        "wouldn't",
        "couldn't",
        "shouldn't",
        "fails",
        "failed",
        "unable",
        "lacks",
        "lacking",
        "denied",
        "denies",
        "refused",
    ]
)
_OPPOSITES = (
    "increase decrease,rise fall,rose fell,grow shrink,grew shrank,gain lose,gain loss,up down,"
    "more less,higher lower,high low,large small,big small,long short,early late,first last,"
    "before after,above below,over under,start end,begin end,open close,buy sell,win lose,won lost,"
    "accept reject,accept decline,allow forbid,allow prevent,allow prohibit,permit prohibit,"
    "agree disagree,support oppose,approve reject,include exclude,positive negative,good bad,"
    "better worse,best worst,strong weak,success failure,succeed fail,true false,left right,"
    "improve worsen,old new,old young,hot cold,fast slow,public private,major minor,most least,"
    "maximum minimum,require optional,always never,all none,all some,everyone noone,happy sad,"
    "love hate,like dislike,arrive leave,enter exit,push pull,expand contract,import export,"
    "internal external,domestic foreign,legal illegal,possible impossible,able unable,safe dangerous,"
    "present absent,many few,remember forget,borrow lend,teach learn,raise lower,add remove"
)
_NUMBERS = {
    word: str(value)
    for value, word in enumerate(
        [
            "zero",
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
            "seventeen",
            "eighteen",
            "nineteen",
            "twenty",
        ]
    )
}
_ENDINGS = ("ization", "isation", "ations", "ation", "ments", "ment", "ness", "ings", "ing",
            "edly", "ies", "ied", "ers", "ed", "er", "es", "ly", "s", "e", "y")  # fmt: skip
_ENOUGH = 0.4
"""Share of a claim's words that must be known for full credit; the rest may be paraphrase."""
_NAMES, _NEGATION, _OPPOSITION = 0.7, 0.3, 0.2
"""What each mismatch takes away; chosen, with the policy's threshold, on one half of SummEdits."""
_CHECKABLE = 3
"""A sentence of fewer content words, none a number or name ("Yes, it does."), claims nothing new."""
_WINDOW = 2
"""Neighbouring source sentences read as one, since a summary joins them."""


@dataclass(frozen=True, slots=True)
class Token:
    stem: str
    weight: float
    """Numbers and names weigh more: swapping one turns a sentence false."""


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


def stem(word: str) -> str:
    """The word without its commonest endings; at least three letters stay."""
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


def tokens(text: str) -> list[Token]:
    """Content words in order, stemmed; numbers without separators, number words as digits."""
    found = []
    for index, match in enumerate(_WORD.finditer(text)):
        word = match.group()
        lower = word.lower().replace("’", "'").removesuffix("'s")
        if lower in _NUMBERS and lower != "one":
            found.append(Token(_NUMBERS[lower], 2.0))
        elif word[0].isdigit():
            found.append(Token(word.replace(",", "").rstrip("%").rstrip(".:"), 2.0))
        elif lower not in _STOP and lower not in _NEGATIONS and len(lower) > 1:
            found.append(Token(stem(lower), 1.6 if index and word[0].isupper() else 1.0))
    return found


def negated(text: str) -> bool:
    return any(
        match.group().lower().replace("’", "'") in _NEGATIONS for match in _WORD.finditer(text)
    )


def sentences(text: str) -> list[tuple[int, int]]:
    """Half-open ranges of the sentences in `text`."""
    edges = [0, *(match.end() for match in _SENTENCE_END.finditer(text)), len(text)]
    return [
        (start, end)
        for start, end in itertools.pairwise(edges)
        if text[start:end].strip()
    ]


def _opposites() -> dict[str, frozenset[str]]:
    table: dict[str, set[str]] = {}
    for pair in _OPPOSITES.split(","):
        one, other = pair.split()
        table.setdefault(stem(one), set()).add(stem(other))
        table.setdefault(stem(other), set()).add(stem(one))
    return {word: frozenset(others) for word, others in table.items()}


_OPPOSITE = _opposites()


def _plain_stems(text: str) -> frozenset[str]:
    """Stems of every word, the small ones (`up`, `before`) included."""
    return frozenset(stem(match.group().lower()) for match in _WORD.finditer(text))


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
    words = [_plain_stems(part) for part in parts]
    windows = tuple(
        _Window(
            frozenset().union(*worded[i : i + _WINDOW]),
            frozenset().union(*words[i : i + _WINDOW]),
            any(negations[i : i + _WINDOW]),
        )
        for i in range(len(parts))
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

    best = max(windows, key=lambda window: share(window.stems), default=_NOTHING)
    said = _plain_stems(claim)
    opposed = any(
        _OPPOSITE.get(word, frozenset()) & (best.words - said) for word in said - best.words
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
