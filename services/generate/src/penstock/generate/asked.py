"""The thing that a question asks for, as opposed to what it is asked about."""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from itertools import takewhile

from penstock.generate.terms import LIGHT_WORDS, STOP_WORDS, stem, tokens

_QUESTION_WORDS = frozenset("what which who whom whose when where why how".split())
_DEGREES = frozenset(
    "many much long often far fast soon old big tall high heavy deep wide large hot cold".split()
)
_FORM_LETTERS = 5
"""Letters that two forms of a word share at least: deliver, delivery."""
_FORM_ENDING = 3
"""Letters at most by which the longer is longer."""


def asked_for(question: str) -> frozenset[str]:
    """Stems of the content words right after the question phrase.

    "price" of "What is the price of the DAM-40?", "paid holiday" of "How many days of paid holiday
    …". Names and identifiers are not asked for: what is asked for is theirs. Empty when the
    question has no question word, or nothing but names behind it.
    """
    words = tokens(question)
    start = next((i for i, word in enumerate(words) if word.casefold() in _QUESTION_WORDS), None)
    if start is None:
        return frozenset()
    rest = words[start + 1 :]
    if rest and rest[0].casefold() in _DEGREES:
        rest = rest[1:]
    while rest and not _is_thing(rest[0]):
        rest = rest[1:]
    run = takewhile(lambda word: word.casefold() not in STOP_WORDS, rest)
    return frozenset(stem(word.casefold()) for word in run if _is_thing(word))


def _is_thing(word: str) -> bool:
    lowered = word.casefold()
    named = word[0].isupper() or any(c.isdigit() for c in word)
    return not named and lowered not in STOP_WORDS and lowered not in LIGHT_WORDS


def forms_of(asked: AbstractSet[str], words: Iterable[str]) -> frozenset[str]:
    """Those of the stems `asked` that are among `words`, or a close form of them is."""
    found = set()
    for word in words:
        if word in asked:
            found.add(word)
        else:
            found.update(stem for stem in asked if _is_form(stem, word))
    return frozenset(found)


def _is_form(one: str, other: str) -> bool:
    """deliver, deliveri (the stem of delivery)."""
    short, long = (one, other) if len(one) <= len(other) else (other, one)
    return (
        len(short) >= _FORM_LETTERS
        and len(long) - len(short) <= _FORM_ENDING
        and long.startswith(short)
    )
