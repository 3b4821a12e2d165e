"""PDF with a text layer, by PDFium: lines, paragraphs by their distance, headings by their size."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pypdfium2 as pdfium
import pypdfium2.raw as raw

from penstock.ingest.detect import Detected, encrypted
from penstock.ingest.document import DocumentBuilder, Parsed
from penstock.ingest.failures import Unreadable

_HEADING_RATIO = 1.15
_PARAGRAPH_GAP = 1.6
_MAX_HEADING_CHARS = 120


@dataclass(frozen=True, slots=True)
class _Line:
    text: str
    page: int
    size: float
    """Of the font, points."""
    top: float
    """Baseline side of the first character, points from the foot of the page."""


def parse_pdf(data: bytes, detected: Detected) -> Parsed:  # noqa: ARG001
    try:
        document = pdfium.PdfDocument(data)
    except pdfium.PdfiumError as error:
        if "password" in str(error).lower():
            raise encrypted("PDF") from error
        raise Unreadable(f"The PDF cannot be opened: {error}.", type="damaged") from error
    try:
        lines = [line for number in range(len(document)) for line in _lines(document, number)]
        title = document.get_metadata_value("Title")
    except pdfium.PdfiumError as error:
        raise Unreadable(f"The PDF cannot be read: {error}.", type="damaged") from error
    finally:
        document.close()
    builder = DocumentBuilder()
    _add_lines(builder, lines)
    return builder.build("pdf", title)


def _lines(document: pdfium.PdfDocument, number: int) -> Iterator[_Line]:
    page = document[number]
    try:
        text_page = page.get_textpage()
        text = text_page.get_text_range()
        start = 0
        for line in text.split("\n"):
            content = line.rstrip("\r").replace("\ufffe", "-").replace("\x02", "-")
            if content.strip():
                at = start + len(line) - len(line.lstrip())
                yield _Line(content.strip(), number + 1, *_measure(text_page, at))
            start += len(line) + 1
    finally:
        page.close()


def _measure(text_page: pdfium.PdfTextPage, index: int) -> tuple[float, float]:
    """Size and height on the page of one character; zeros where PDFium knows none."""
    if index >= text_page.count_chars():
        return 0.0, 0.0
    size = raw.FPDFText_GetFontSize(text_page, index)
    try:
        _, bottom, _, top = text_page.get_charbox(index, loose=True)
    except pdfium.PdfiumError:
        return float(size), 0.0
    # The font size ignores the text matrix; a box that is far off it tells the true size.
    height = top - bottom
    return (float(size) if size > 1.5 else height), bottom


def _add_lines(builder: DocumentBuilder, lines: list[_Line]) -> None:
    body = _body_size(lines)
    levels = _levels(lines, body)
    paragraph: list[_Line] = []
    heading: list[_Line] = []

    def flush() -> None:
        if heading:
            builder.heading(_joined(heading), levels[round(heading[0].size, 1)], heading[0].page)
        if paragraph:
            builder.paragraph(_joined(paragraph), paragraph[0].page)
        heading.clear()
        paragraph.clear()

    for line in lines:
        into = heading if _is_heading(line, body) else paragraph
        previous = (heading or paragraph)[-1] if heading or paragraph else None
        if previous is not None and _breaks(previous, line, same=bool(into)):
            flush()
        into.append(line)
    flush()


def _body_size(lines: list[_Line]) -> float:
    sizes: Counter[float] = Counter()
    for line in lines:
        sizes[round(line.size, 1)] += len(line.text)
    return sizes.most_common(1)[0][0] if sizes else 0.0


def _levels(lines: list[_Line], body: float) -> dict[float, int]:
    sizes = sorted({round(line.size, 1) for line in lines if _is_heading(line, body)}, reverse=True)
    return {size: min(index, 6) for index, size in enumerate(sizes, 1)}


def _is_heading(line: _Line, body: float) -> bool:
    return (
        body > 0
        and line.size >= body * _HEADING_RATIO
        and len(line.text) <= _MAX_HEADING_CHARS
        and any(char.isalpha() for char in line.text)
    )


def _breaks(previous: _Line, line: _Line, *, same: bool) -> bool:
    """True when `line` begins something new: another kind, size, or a gap above it.

    A sentence that runs over the page's end goes on.
    """
    if not same or abs(previous.size - line.size) > max(0.5, previous.size * 0.12):
        return True
    if previous.page != line.page:
        return previous.text.endswith((".", "!", "?", ":")) or line.text[:1].isupper()
    gap = previous.top - line.top
    return gap > max(previous.size, line.size) * _PARAGRAPH_GAP


def _joined(lines: list[_Line]) -> str:
    """Lines of one paragraph; a word divided at a line's end is put together again."""
    text = ""
    for line in lines:
        if text.endswith("-") and text[-2:-1].isalpha() and line.text[:1].islower():
            text = text[:-1] + line.text
        else:
            text = f"{text}\n{line.text}" if text else line.text
    return text
