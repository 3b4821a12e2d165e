"""Cut a passage into sentences, table rows and list items, each an exact slice of its text."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

WRAPPED_LINE = 60
"""A line at least this long (characters) without a full stop goes on in the next one."""

HEADING_WORDS = 8
"""A longer line is no heading."""

_MARKER = re.compile(r"\s*(?:[-*•–]\s|\(?\d{1,3}[.)]\s|\(?[a-z]\)\s|#{1,6}\s|>)")
_HEADING = re.compile(r"\s*#{1,6}\s")
_ROW = re.compile(r"\s\|\s|^\s*\||\t")
_RULE = re.compile(r"[\s|:=+_*-]+")
_CLOSED = re.compile(r"[.!?:;…。][\"')\]”’»]*$")
_END = re.compile(r"(?P<stop>[.!?…]+)(?P<close>[\"')\]”’»]*|\s'')\s+(?=[\"'(\[“‘«`]*\s?[\w*])")
_WORD_BEFORE = re.compile(r"[\w.]+$")
_STATES = re.compile(r"\d|[.!?;…。][\"')\]”’»]*$")
_LOWER_AFTER = re.compile(r"[\"'(\[“‘«`]*\s?[a-z]")
_ABBREVIATIONS = frozenset(
    [
        "mr",
        "mrs",
        "ms",
        "dr",
        "prof",
        "sr",
        "jr",
        "st",
        "mt",
        "no",
        "nos",
        "nr",
        "inc",
        "ltd",
        "co",
        "corp",
        "llc",
        "gmbh",
        "vs",
        "etc",
        "approx",
        "dept",
        "est",
        "fig",
        "eq",
        "sec",
        "art",
        "vol",
        "ed",
        "eds",
        "al",
        "cf",
        "e.g",
        "i.e",
        "p.m",
        "a.m",
        "u.s",
        "u.k",
        "e.u",
        "jan",
        "feb",
        "mar",
        "apr",
        "jun",
        "jul",
        "aug",
        "sep",
        "sept",
        "oct",
        "nov",
        "dec",
        "mon",
        "tue",
        "tues",
        "wed",
        "thu",
        "thur",
        "thurs",
        "fri",
        "sat",
        "sun",
        "tel",
        "ext",
        "max",
        "min",
        "ca",
        "gen",
        "col",
        "capt",
        "lt",
        "sgt",
        "rev",
        "hon",
        "gov",
        "sen",
        "rep",
    ]
)


@dataclass(frozen=True, slots=True)
class Sentence:
    """`text[start:end]` of the passage it comes from, without surrounding space."""

    text: str
    start: int
    end: int
    row: bool = False
    """A table row: its cells are read together with the row that names the columns."""
    heading: bool = False
    """Names a subject and states nothing about it."""


def split_sentences(text: str) -> list[Sentence]:
    """The sentences of `text` in order; rules of a table (`|---|`) are none."""
    found = []
    blocks = list(_blocks(text))
    for index, (start, end) in enumerate(blocks):
        block = text[start:end]
        row = bool(_ROW.search(block))
        following = next((t for t in (text[a:b].strip() for a, b in blocks[index + 1 :]) if t), "")
        heading = not row and _is_heading(block.strip(), following)
        spans = [(0, len(block))] if row or heading else _sentence_spans(block)
        for low, high in spans:
            sentence = _trimmed(text, start + low, start + high, row=row, heading=heading)
            if sentence is not None:
                found.append(sentence)
    return found


def _is_heading(line: str, following: str) -> bool:
    """Marked as one, or a few words above a block, without a figure or a full stop."""
    if _HEADING.match(line):
        return True
    if len(line.split()) > HEADING_WORDS or _STATES.search(line) or _MARKER.match(line):
        return False
    if line.endswith((":", ",")):
        return True
    return bool(_ROW.search(following) or _STATES.search(following[-3:]))


def _trimmed(text: str, start: int, end: int, *, row: bool, heading: bool) -> Sentence | None:
    raw = text[start:end]
    body = raw.strip()
    if not body or _RULE.fullmatch(body):
        return None
    start += len(raw) - len(raw.lstrip())
    return Sentence(body, start, start + len(body), row, heading)


def _blocks(text: str) -> Iterator[tuple[int, int]]:
    """Runs of lines that belong together: a wrapped paragraph, one item, one row."""
    start = 0
    previous = ""
    position = 0
    for line in text.splitlines(keepends=True):
        if position > start and not _goes_on(previous, line):
            yield start, position
            start = position
        previous = line
        position += len(line)
    if position > start:
        yield start, position


def _goes_on(line: str, following: str) -> bool:
    line, following = line.strip(), following.strip()
    if not line or not following:
        return False
    if _ROW.search(line) or _ROW.search(following) or _MARKER.match(following):
        return False
    if _HEADING.match(line) or _CLOSED.search(line):
        return False
    return len(line) >= WRAPPED_LINE or bool(_LOWER_AFTER.match(following))


def _sentence_spans(block: str) -> list[tuple[int, int]]:
    spans = []
    start = 0
    for match in _END.finditer(block):
        if _is_boundary(block, start, match):
            spans.append((start, match.end()))
            start = match.end()
    spans.append((start, len(block)))
    return spans


def _is_boundary(block: str, start: int, match: re.Match[str]) -> bool:
    """Whether the stop ends a sentence rather than an abbreviation, an initial or an ordinal."""
    if match["stop"] != ".":
        return not _LOWER_AFTER.match(block, match.end())
    if _LOWER_AFTER.match(block, match.end()):
        return False
    before = _WORD_BEFORE.search(block, start, match.start())
    if before is None:
        return True
    word = before.group().casefold()
    if word in _ABBREVIATIONS:
        return False
    if word.isdigit():  # "1. Press" and "3. October" number something, "in 2019. Then" ends
        return len(word) > 2 and match.start() > start + len(word)
    return len(word) > 1 or not word.isalpha()
