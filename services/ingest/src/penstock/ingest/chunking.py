"""Cut a parsed document into chunks, and the chunks into batches. Pure.

A chunk is a range of the extracted text, so its text can be cited by its span.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

from penstock.common.events import (
    MAX_BATCH_BYTES,
    MAX_BATCH_CHUNKS,
    Chunk,
    ElementKind,
    TextSpan,
)
from penstock.ingest.document import Element, Parsed
from penstock.ingest.failures import Unreadable

TokenStarts = Callable[[str], Sequence[int]]
"""Ascending character offsets at which the tokens of a text begin."""

_WINDOW = 1.16
"""How far beyond the aim a sentence or row may go before it is cut: 220 becomes 255."""
_FULL_ENOUGH = 0.5
"""From this part of the aim on, a chunk ends at an element rather than inside the next one."""
_SMALL = 0.25
"""A section below this part of the aim is joined by the next part of the section around it."""
_BYTES_PER_DIMENSION = 8 / 3
"""float16 as base64."""
_CHUNK_OVERHEAD_BYTES = 160
"""JSON around the text of a chunk: names, numbers, quotes."""

_SENTENCE_END = re.compile(r"[.!?…][\"'”’)\]]*(?=\s)|[。！？]|\n(?=\s*(?:[-*•]|\d+[.)])\s)")
_ABBREVIATION = re.compile(
    r"(?:\b(?:e\.g|i\.e|etc|vs|cf|Dr|Mr|Mrs|Ms|Prof|St|No|Nr|Fig|Eq|Sec|Vol|pp|al|Inc|Ltd|Co|"
    r"approx|dept|est)|\b[A-Z])\.$"
)


@dataclass(frozen=True, slots=True)
class _Piece:
    """What is not cut further: a sentence, a row, a line; `tokens` counts it alone."""

    start: int
    end: int
    tokens: int
    element: Element
    element_tokens: int
    first: bool
    """Begins its element."""
    part: str | None = None
    """Of a row or sentence too long for the window: which of how many."""


def chunk(parsed: Parsed, token_starts: TokenStarts, *, aim: int, most: int) -> tuple[Chunk, ...]:
    """
    Chunks of about `aim` tokens, never above 1.16 times that, in reading order.

    A heading begins a chunk and stays with what follows it. Tables are cut between rows, text
    between sentences; only what exceeds the window alone is cut inside, and says so at the end of
    its heading path. Raises `Unreadable` above `most` chunks.
    """
    starts = token_starts(parsed.text)
    chunks: list[Chunk] = []
    for group in _groups(_pieces(parsed, starts, round(aim * _WINDOW)), aim):
        if len(chunks) == most:
            raise Unreadable(
                f"The document makes more than {most} chunks, the limit of its collection: "
                "submit it in parts.",
                type="too_many_chunks",
            )
        chunks.append(_chunk(len(chunks), parsed.text, group))
    return tuple(chunks)


def _count(starts: Sequence[int], start: int, end: int) -> int:
    return bisect_left(starts, end) - bisect_left(starts, start)


def _pieces(parsed: Parsed, starts: Sequence[int], window: int) -> Iterator[_Piece]:
    for element in parsed.elements:
        whole = _count(starts, element.span.start, element.span.end)
        first = True
        for start, end, tokens, part in _cut(parsed.text, element, whole, starts, window):
            yield _Piece(start, end, tokens, element, whole, first, part)
            first = False


def _cut(
    text: str, element: Element, whole: int, starts: Sequence[int], window: int
) -> Iterator[tuple[int, int, int, str | None]]:
    """An element's smallest ranges: rows or sentences, and cuts of those above the window."""
    if element.kind is ElementKind.TITLE and whole <= window:
        yield element.span.start, element.span.end, whole, None
        return
    if element.rows:
        ranges = [(row.start, row.end) for row in element.rows]
    elif element.kind is ElementKind.TABLE:
        ranges = [(element.span.start, element.span.end)]
    else:
        ranges = list(sentences(text, element.span.start, element.span.end))
    unit = "row" if element.kind is ElementKind.TABLE else "passage"
    for start, end in ranges:
        tokens = _count(starts, start, end)
        if tokens <= window:
            yield start, end, tokens, None
            continue
        parts = list(_slices(text, start, end, starts, window))
        for number, (a, b) in enumerate(parts, 1):
            yield a, b, _count(starts, a, b), f"(part {number} of {len(parts)} of one {unit})"


def sentences(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Ranges of the sentences in text[start:end], without the white space between them."""
    at = start
    for match in _SENTENCE_END.finditer(text, start, end):
        stop = match.end()
        if text[match.start()] == "." and _ABBREVIATION.search(text, max(at, stop - 12), stop):
            continue
        if text[at:stop].strip():
            yield _trimmed(text, at, stop)
            at = stop
    if text[at:end].strip():
        yield _trimmed(text, at, end)


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    part = text[start:end]
    return start + len(part) - len(part.lstrip()), end - len(part) + len(part.rstrip())


def _slices(
    text: str, start: int, end: int, starts: Sequence[int], window: int
) -> Iterator[tuple[int, int]]:
    """Cut a range into slices of at most `window` tokens, between words where there are any."""
    first, last = bisect_left(starts, start), bisect_left(starts, end)
    while last - first > window:
        cut = first + window
        while cut > first + window // 2 and not text[starts[cut] - 1].isspace():
            cut -= 1
        if not text[starts[cut] - 1].isspace():
            cut = first + window
        yield _trimmed(text, start, starts[cut])
        start, first = starts[cut], cut
    yield _trimmed(text, start, end)


def _groups(pieces: Iterator[_Piece], aim: int) -> Iterator[list[_Piece]]:
    """Pieces that share a chunk."""
    group: list[_Piece] = []
    tokens = 0
    for piece in pieces:
        if group and _ends(group, tokens, piece, aim):
            whole, group = _without_last_titles(group)
            yield whole
            tokens = sum(one.tokens for one in group)
        group.append(piece)
        tokens += piece.tokens
    if group:
        yield group


def _without_last_titles(group: list[_Piece]) -> tuple[list[_Piece], list[_Piece]]:
    """A heading at the end belongs to what comes next."""
    last = len(group)
    while last and group[last - 1].element.kind is ElementKind.TITLE:
        last -= 1
    return (group[:last], group[last:]) if last else (group, [])


def _ends(group: list[_Piece], tokens: int, piece: _Piece, aim: int) -> bool:
    """True when `piece` begins a new chunk."""
    only_titles = all(one.element.kind is ElementKind.TITLE for one in group)
    if tokens + piece.tokens > aim:
        return not only_titles or tokens + piece.tokens > aim * _WINDOW
    if piece.element.kind is ElementKind.TITLE:
        return not only_titles and (tokens >= aim * _SMALL or not _shares_section(group[0], piece))
    if piece.part or group[-1].part:
        return not only_titles
    too_long_to_join = tokens + piece.element_tokens > aim
    return piece.first and too_long_to_join and tokens >= aim * _FULL_ENOUGH


def _shares_section(first: _Piece, heading: _Piece) -> bool:
    """True when a heading lies in the section of `first` or in the one right around that."""
    path, there = first.element.heading_path, heading.element.heading_path
    return any(section and there[: len(section)] == section for section in (path, path[:-1]))


def _shared_path(group: list[_Piece]) -> tuple[str, ...]:
    """The headings that everything in a chunk stands under."""
    pieces = [one for one in group if one.element.kind is not ElementKind.TITLE] or group[-1:]
    paths = [piece.element.heading_path for piece in pieces]
    least, most = min(paths), max(paths)
    for depth, (one, other) in enumerate(zip(least, most, strict=False)):
        if one != other:
            return least[:depth]
    return least


def _chunk(ordinal: int, text: str, group: list[_Piece]) -> Chunk:
    start, end = group[0].start, group[-1].end
    sizes: dict[ElementKind, int] = {}
    for piece in group:
        kind = piece.element.kind
        weight = 0 if kind is ElementKind.TITLE else piece.end - piece.start
        sizes[kind] = sizes.get(kind, 0) + weight
    path = _shared_path(group)
    part = group[-1].part
    return Chunk(
        ordinal=ordinal,
        text=text[start:end],
        kind=max(sizes, key=lambda kind: sizes[kind]),
        span=TextSpan(start=start, end=end),
        page=group[0].element.page,
        heading_path=(*path, part) if part else path,
    )


def batches(chunks: Sequence[Chunk], dim: int) -> Iterator[tuple[Chunk, ...]]:
    """Batches whose text and future vectors of `dim` dimensions fit an event."""
    vector = int(dim * _BYTES_PER_DIMENSION) + _CHUNK_OVERHEAD_BYTES
    batch: list[Chunk] = []
    size = 0
    for one in chunks:
        weight = vector + json_bytes(one.text) + sum(json_bytes(h) + 3 for h in one.heading_path)
        if batch and (size + weight > MAX_BATCH_BYTES or len(batch) == MAX_BATCH_CHUNKS):
            yield tuple(batch)
            batch, size = [], 0
        batch.append(one)
        size += weight
    if batch:
        yield tuple(batch)


def json_bytes(text: str) -> int:
    """Length of a text in JSON: UTF-8, with quotes, backslashes and controls escaped."""
    return len(text.encode()) + sum(map(text.count, ('"', "\\", "\n", "\t")))


def cut_of(chunks: Sequence[Chunk]) -> str:
    """Hash of a document's list of chunks: equal exactly when the lists are."""
    digest = sha256()
    for one in chunks:
        digest.update(one.model_dump_json().encode())
        digest.update(b"\n")
    return digest.hexdigest()[:32]
