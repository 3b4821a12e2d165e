"""A document as its text and its elements, whatever file it came from.

`Parsed.text` is the extracted text: what citations point into. Every element is a range of it.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from penstock.common.events import ElementKind, TextSpan

# What neither JSON nor Postgres carries (controls, lone surrogates), and what is invisible noise.
_UNWANTED = re.compile("[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff\ufeff\u00ad]")
_LINE_ENDS = re.compile("\r\n|[\r\x0b\x0c]")
_SPACES = re.compile(r"[^\S\n]+")
_BLANK_LINES = re.compile(r"\n\s*\n+")
_NUMBER = re.compile(r"^[\s$€£¥%+\-.,:/()\d]+$")


@dataclass(frozen=True, slots=True)
class Element:
    """A paragraph, title, list, table or piece of code; `text[span.start:span.end]` is its text."""

    kind: ElementKind
    span: TextSpan
    page: int | None = None
    heading_path: tuple[str, ...] = ()
    rows: tuple[TextSpan, ...] = ()
    """Where it may be split first: table rows, list items, lines of code."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a parser found. `converter` names the parser; no element means it found nothing."""

    text: str
    elements: tuple[Element, ...]
    title: str | None
    converter: str


@dataclass(slots=True)
class DocumentBuilder:
    """Collects elements in reading order and keeps their spans true."""

    _parts: list[str] = field(default_factory=list)
    _elements: list[Element] = field(default_factory=list)
    _headings: list[tuple[int, str]] = field(default_factory=list)
    _length: int = 0

    def heading(self, text: str, level: int, page: int | None = None) -> None:
        """A heading of `level` (1 is the highest): what follows stands below it."""
        text = one_line(text)
        if not text:
            return
        while self._headings and self._headings[-1][0] >= level:
            self._headings.pop()
        self._headings.append((level, text[:200]))
        self._append(ElementKind.TITLE, [text], page)

    def paragraph(self, text: str, page: int | None = None) -> None:
        """Running text; a blank line inside separates paragraphs."""
        for part in _BLANK_LINES.split(clean(text)):
            line = _SPACES.sub(" ", part).strip()
            if line:
                self._append(ElementKind.PARAGRAPH, [line], page)

    def items(self, items: Iterable[str], page: int | None = None) -> None:
        """A list, one item a line."""
        self._append(ElementKind.LIST, [one_line(item) for item in items], page)

    def code(self, text: str, page: int | None = None) -> None:
        """Code keeps its lines and indentation."""
        self._append(ElementKind.CODE, clean(text).strip("\n").rstrip().split("\n"), page)

    def table(
        self,
        rows: Iterable[Sequence[str]],
        *,
        header: bool | None = None,
        page: int | None = None,
    ) -> None:
        """A table, one row a line. Below a header each cell is led by its column's name, so that
        a row says what it means wherever it is cut out. `header` None: judged from the cells.
        """
        cells = [[one_line(cell) for cell in row] for row in rows]
        self._append(ElementKind.TABLE, table_lines(cells, header=header), page)

    def build(self, converter: str, title: str | None = None) -> Parsed:
        return Parsed(
            text="".join(self._parts),
            elements=tuple(self._elements),
            title=one_line(title or "")[:500] or None,
            converter=converter,
        )

    def _append(self, kind: ElementKind, lines: list[str], page: int | None) -> None:
        lines = [line for line in lines if line.strip() or kind is ElementKind.CODE]
        if not any(line.strip() for line in lines):
            return
        if self._parts:
            self._put("\n\n")
        start = self._length
        rows = []
        for index, line in enumerate(lines):
            if index:
                self._put("\n")
            rows.append(TextSpan(start=self._length, end=self._length + len(line)))
            self._put(line)
        self._elements.append(
            Element(
                kind=kind,
                span=TextSpan(start=start, end=self._length),
                page=page,
                heading_path=tuple(text for _, text in self._headings),
                rows=tuple(rows) if len(rows) > 1 else (),
            )
        )

    def _put(self, text: str) -> None:
        self._parts.append(text)
        self._length += len(text)


def clean(text: str) -> str:
    """Without control characters, invisible ones and foreign line ends."""
    return _UNWANTED.sub("", _LINE_ENDS.sub("\n", text))


def one_line(text: str) -> str:
    return " ".join(clean(text).split())


def table_lines(rows: Sequence[Sequence[str]], *, header: bool | None) -> list[str]:
    """`Model: X-200 | Price: 40 EUR` for each row below a header, else `X-200 | 40 EUR`."""
    filled = [row for row in rows if any(row)]
    if header is None:
        header = looks_like_header(filled)
    if not header or len(filled) < 2:
        return [" | ".join(cell for cell in row if cell) for row in filled]
    names = filled[0]
    return [_named(names, row) for row in filled[1:]]


def _named(names: Sequence[str], row: Sequence[str]) -> str:
    parts = []
    for index, cell in enumerate(row):
        name = names[index] if index < len(names) else ""
        if cell:
            parts.append(f"{name.rstrip(':')}: {cell}" if name and name != cell else cell)
    return " | ".join(parts)


def looks_like_header(rows: Sequence[Sequence[str]]) -> bool:
    """True when the first row names columns: short, distinct words, and no label column below.

    Two columns of words alone are more often labels with their values, so they do not count.
    """
    if len(rows) < 2 or len(rows[0]) < 2:
        return False
    names = rows[0]
    if not all(names) or len(set(names)) < len(names):
        return False
    if any(_NUMBER.match(name) or len(name) > 60 for name in names):
        return False
    numeric_below = any(_NUMBER.match(cell) for row in rows[1:] for cell in row if cell)
    return numeric_below or len(names) > 2
