"""Undo disguises of text while remembering where every character came from.

Compatibility forms, zero-width, bidirectional and tag characters, combining marks and letters of
other scripts that look Latin are folded away, so that a rule is written once, in plain lower case.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

# Letters of other scripts that are drawn like a Latin one (general knowledge of Unicode
# confusables, the common part of UTS 39): pairs of look-alike and Latin letter.
_LOOKALIKES = {
    **dict(zip("авсԁеһіјкӏмнорԛѕтуѵԝх", "abcdehijklmhopqstyvwx", strict=True)),  # Cyrillic
    **dict(zip("αβεζηικμνορτυχωϲϳ", "abeznikmvoptuxwcj", strict=True)),  # Greek
    **dict(zip("ıȷɑɡɩ", "ijagi", strict=True)),
}
_LEET = str.maketrans("013457@$!|", "oieastasil")
_PUNCTUATION = {"’": "'", "‘": "'", "“": '"', "”": '"', "–": "-", "—": "-", "‐": "-"}
_IGNORED = frozenset({"Cf", "Mn", "Me", "Cs", "Co"})


@dataclass(frozen=True, slots=True)
class Normalised:
    """Folded text; `origin[i]` is the index in the original of its i-th character."""

    text: str
    origin: Sequence[int]
    length: int
    """Of the original, code points."""

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The original's half-open range behind `start`..`end` of the folded text."""
        if start >= end:
            at = self.origin[start] if start < len(self.origin) else self.length
            return at, at
        return self.origin[start], self.origin[end - 1] + 1


def normalise(text: str) -> Normalised:
    """Lower case, compatibility-folded, without invisible characters, look-alikes made Latin."""
    if text.isascii():
        return Normalised(text.lower(), range(len(text)), len(text))
    folded: list[str] = []
    origin: list[int] = []
    for index, char in enumerate(text):
        plain = char.lower() if char < "\x80" else fold(char)
        folded.append(plain)
        origin.extend([index] * len(plain))
    return Normalised("".join(folded), origin, len(text))


def fold(char: str) -> str:
    """One character's plain form; empty when it is invisible."""
    plain = "".join(
        _LOOKALIKES.get(part, part)
        for part in unicodedata.normalize("NFKD", char).lower()
        if unicodedata.category(part) not in _IGNORED
    )
    return _PUNCTUATION.get(plain, plain)


def unleet(text: str) -> str:
    """Digits and signs that stand for letters made letters; the length stays the same."""
    return text.translate(_LEET)


def without_gaps(source: Normalised, runs: Sequence[tuple[int, int]]) -> Normalised:
    """Join letters that were spaced out: within each run everything but letters goes.

    Two or more spaces in a run are taken for the gap between words.
    """
    text: list[str] = []
    origin: list[int] = []
    position = 0
    for start, end in runs:
        text.extend(source.text[position:start])
        origin.extend(source.origin[position:start])
        for index in range(start, end):
            char = source.text[index]
            word_gap = char.isspace() and source.text[index + 1 : index + 2].isspace()
            if char.isalnum() or word_gap:
                text.append(char)
                origin.append(source.origin[index])
        position = end
    text.extend(source.text[position:])
    origin.extend(source.origin[position:])
    return Normalised("".join(text), origin, source.length)
