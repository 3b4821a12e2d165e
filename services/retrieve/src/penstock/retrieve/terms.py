"""Text to terms: the one tokeniser that documents and questions share.

Words are lower-cased, stripped of diacritics and stemmed (Snowball English). A compound that holds
a digit or an underscore (`KLN-12`, `3.5`, `max_wait_ms`) is a term as it stands besides its parts,
so that it is found by its exact name and by any of its pieces.
"""

import re
import unicodedata

import Stemmer

MAX_TERM_CHARS = 64
"""Longer terms are cut: nobody types them, and an index row has a limit."""

_COMPOUND = re.compile(r"[^\W_]+(?:[-._/:'][^\W_]+)*")
_PART = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_IDENTIFIER = re.compile(r"(?=.*[\d_])[^']+[-._/:][^']+")
_DIACRITIC = re.compile(r"[\u0300-\u036f]")
_IDEOGRAPH = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]")

_STOP_WORDS = """
a an and are as at be but by for if in into is it its no not of on or such that the their then there
these they this to was were will with
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())


class _TermsOfWord(dict[str, tuple[str, ...]]):
    """The terms of each word seen; emptied when it has grown too large to be worth its memory."""

    LIMIT = 200_000

    def __init__(self) -> None:
        super().__init__()
        self._stemmer = Stemmer.Stemmer("english", 0)

    def __missing__(self, word: str) -> tuple[str, ...]:
        if len(self) >= self.LIMIT:
            self.clear()
        parts = _PART.findall(word)
        found = [self._stemmer.stemWord(part) for part in parts if part not in STOP_WORDS]
        if len(parts) > 1 and _IDENTIFIER.fullmatch(word):
            found.insert(0, word)
        terms = tuple(term[:MAX_TERM_CHARS] for term in found)
        self[word] = terms
        return terms


_terms_of_word = _TermsOfWord()


def terms(text: str) -> list[str]:
    """The terms of a text in reading order, repeats kept."""
    found: list[str] = []
    for word in _COMPOUND.findall(_folded(text)):
        found += _terms_of_word[word]
    return found


def _folded(text: str) -> str:
    if text.isascii():
        return text.lower()
    plain = unicodedata.normalize("NFKD", text.lower().replace("\u2019", "'"))
    composed = unicodedata.normalize("NFC", _DIACRITIC.sub("", plain))
    return _IDEOGRAPH.sub(r" \g<0> ", composed).lower()
