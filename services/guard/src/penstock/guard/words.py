"""English as far as groundedness needs it: content words, stems, sentences, opposites."""

import itertools
import re
from dataclasses import dataclass
from functools import lru_cache

_WORD = re.compile(r"[A-Za-zÀ-ɏ]+(?:['’-][A-Za-zÀ-ɏ]+)*|\d+(?:[.,:]\d+)*%?")
MARKER = re.compile(r"\s?\[(\d{1,3})\]")
_SENTENCE_END = re.compile(
    r"(?<=[.!?])[\"')\]]*(?:\s?\[\d{1,3}\])*\s+(?=[A-Z0-9\"'(])|(?<=\])\s+(?=[A-Z])|\n+"
)
_STOP_WORDS = (
    "a an the and or but if then than that this these those there here of in on at by for "
    "from to with as into over under about between through during before after above "
    "below up down out off is are was were be been being am do does did doing have has "
    "had having will would shall should can could may might must it its he she they them "
    "his her their theirs we our you your i me my who whom which what when where why how "
    "all any both each few more most other some such own same so too very just also only "
    "one s t re ve ll d m said says say while because until against however"
)
_NEGATING_WORDS = (
    "no not never none nobody nothing neither nor without cannot can't won't don't "
    "doesn't didn't isn't aren't wasn't weren't hasn't haven't hadn't wouldn't couldn't "
    "shouldn't fails failed unable lacks lacking denied denies refused"
)
_NUMBER_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen "
    "fourteen fifteen sixteen seventeen eighteen nineteen twenty"
)
_OPPOSITE_PAIRS = (
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
_LONGEST = 40
"""Letters of a word that has endings; what is longer is no word, and is not kept in memory."""
_STOP = frozenset(_STOP_WORDS.split())
_NEGATIONS = frozenset(_NEGATING_WORDS.split())
_NUMBERS = {word: str(value) for value, word in enumerate(_NUMBER_WORDS.split())}
_ENDINGS = ("ization", "isation", "ations", "ation", "ments", "ment", "ness", "ings", "ing",
            "edly", "ies", "ied", "ers", "ed", "er", "es", "ly", "s", "e", "y")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Token:
    stem: str
    weight: float
    """Numbers and names weigh more: swapping one turns a sentence false."""


def stem(word: str) -> str:
    """The word without its commonest endings, two at most; at least three letters stay."""
    return _stem(word) if len(word) <= _LONGEST else word


@lru_cache(maxsize=65536)
def _stem(word: str) -> str:
    return _shortened(_shortened(word, 3), 4)


def _shortened(word: str, stays: int) -> str:
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= stays:
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
    return [(start, end) for start, end in itertools.pairwise(edges) if text[start:end].strip()]


def _opposites() -> dict[str, frozenset[str]]:
    table: dict[str, set[str]] = {}
    for pair in _OPPOSITE_PAIRS.split(","):
        one, other = pair.split()
        table.setdefault(stem(one), set()).add(stem(other))
        table.setdefault(stem(other), set()).add(stem(one))
    return {word: frozenset(others) for word, others in table.items()}


OPPOSITE = _opposites()
"""A stem -> the stems that say the opposite."""


def plain_stems(text: str) -> frozenset[str]:
    """Stems of every word, the small ones (`up`, `before`) included."""
    return frozenset(stem(match.group().lower()) for match in _WORD.finditer(text))
