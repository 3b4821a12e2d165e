"""DOCX straight from its XML, by local names: strict files, content controls, text boxes and
equations are read, which python-docx leaves out.

ECMA-376 part 1, section 17.
"""

import re
import zipfile
from collections.abc import Iterator
from io import BytesIO

from penstock.ingest.detect import ARCHIVE_ERRORS, Detected
from penstock.ingest.document import DocumentBuilder, Parsed
from penstock.ingest.failures import Unreadable
from penstock.ingest.parsers.charts import add_chart
from penstock.ingest.parsers.numbering import Numbering, numbered
from penstock.ingest.parsers.xmltree import (
    XmlElement,
    XmlError,
    attribute,
    local,
    read_xml,
    value_of,
)

_HEADING_NAME = re.compile(r"^(?:heading\s*(\d)|title|subtitle)$", re.IGNORECASE)
_BESIDE = re.compile(r"^word/(?:header\d*|footer\d*|footnotes|endnotes|comments)\.xml$")
_CHART = re.compile(r"^word/charts/chart[^/]*\.xml$")
_CODE_NAME = re.compile(r"code|preformatted|listing", re.IGNORECASE)
_BODY_LEVEL = 9


class _Styles:
    """What the paragraph styles of a document mean: heading levels and code."""

    def __init__(self, root: XmlElement | None) -> None:
        self._levels: dict[str, int] = {}
        self._code: set[str] = set()
        self._numbers: dict[str, tuple[str, int]] = {}
        based_on: dict[str, str] = {}
        for style in root if root is not None else ():
            if local(style) != "style" or attribute(style, "type") not in ("paragraph", None):
                continue
            style_id = attribute(style, "styleId") or ""
            name = value_of(style, "name") or ""
            parent = value_of(style, "basedOn")
            if parent:
                based_on[style_id] = parent
            self._note(style_id, name, value_of(style, "outlineLvl"))
            number = numbered(style)
            if number is not None:
                self._numbers[style_id] = number
        for style_id, parent in based_on.items():
            if style_id not in self._numbers and parent in self._numbers:
                self._numbers[style_id] = self._numbers[parent]
            if style_id not in self._levels and parent in self._levels:
                self._levels[style_id] = self._levels[parent]

    def _note(self, style_id: str, name: str, outline: str | None) -> None:
        heading = _HEADING_NAME.match(name)
        if heading:
            self._levels[style_id] = int(heading[1]) if heading[1] else 1
        elif outline and outline.isdecimal() and int(outline) < _BODY_LEVEL:
            self._levels[style_id] = int(outline) + 1
        elif _CODE_NAME.search(name):
            self._code.add(style_id)

    def level(self, style_id: str) -> int | None:
        return self._levels.get(style_id)

    def number(self, style_id: str) -> tuple[str, int] | None:
        """List and level of the numbers before paragraphs of a style."""
        return self._numbers.get(style_id)

    def is_code(self, style_id: str) -> bool:
        return style_id in self._code


def parse_docx(data: bytes, detected: Detected) -> Parsed:  # noqa: ARG001
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            names = archive.namelist()
            body = read_xml(archive.read("word/document.xml"))
            styles = _Styles(_member(archive, names, "word/styles.xml"))
            numbering = Numbering(_member(archive, names, "word/numbering.xml"))
            core = _member(archive, names, "docProps/core.xml")
            beside = [read_xml(archive.read(name)) for name in names if _BESIDE.match(name)]
            charts = [read_xml(archive.read(name)) for name in names if _CHART.match(name)]
    except (*ARCHIVE_ERRORS, XmlError) as error:
        raise Unreadable(f"The Word file is damaged: {error}.", type="damaged") from error
    reader = _Reader(styles, numbering)
    reader.read(body)
    for part in beside:
        reader.read(part)
    for chart in charts:
        add_chart(reader.builder, chart)
    title = next((e.text for e in core if local(e) == "title"), None) if core is not None else None
    return reader.builder.build("docx", title)


class _Reader:
    """Walks the blocks of a part; list items and lines of code gather until something else comes."""

    def __init__(self, styles: _Styles, numbering: Numbering) -> None:
        self.builder = DocumentBuilder()
        self._numbering = numbering
        self._styles = styles
        self._items: list[str] = []
        self._code: list[str] = []

    def read(self, part: XmlElement) -> None:
        self._blocks(part)
        self._flush()

    def _flush(self) -> None:
        self.builder.items(self._items)
        self.builder.code("\n".join(self._code))
        self._items.clear()
        self._code.clear()

    def _blocks(self, parent: XmlElement) -> None:
        for child in parent:
            name = local(child)
            if name == "p":
                self._paragraph(child)
            elif name == "tbl":
                self._flush()
                self._table(child)
            elif name not in ("sectPr", "pPr", "rPr", "del", "moveFrom"):
                self._blocks(child)  # body, content controls, footnotes, comments

    def _paragraph(self, paragraph: XmlElement) -> None:
        properties = next((e for e in paragraph if local(e) == "pPr"), None)
        style = value_of(properties, "pStyle") or "" if properties is not None else ""
        outline = value_of(properties, "outlineLvl") if properties is not None else None
        level = self._styles.level(style)
        if level is None and outline and outline.isdecimal() and int(outline) < _BODY_LEVEL:
            level = int(outline) + 1
        text = "".join(_runs(paragraph))
        number = numbered(properties) or self._styles.number(style)
        if number is not None and text.strip():
            text = f"{self._numbering.label(*number)} {text}"
        if self._styles.is_code(style):
            self._code.append(text)
        elif text.strip() and level is None and _is_item(number, style):
            self._items.append(text)
        elif text.strip():
            self._flush()
            if level is not None:
                self.builder.heading(text, level)
            else:
                self.builder.paragraph(text)
        self._boxes(paragraph)

    def _boxes(self, element: XmlElement) -> None:
        """Text boxes anchored in a paragraph follow it."""
        for box in element.iter("{*}txbxContent"):
            if not _in_fallback(box, element):
                self._flush()
                self._blocks(box)
                self._flush()

    def _table(self, table: XmlElement) -> None:
        rows = [_row(row) for row in _rows(table)]
        flagged = next((bool(row.findall("./{*}trPr/{*}tblHeader")) for row in _rows(table)), False)
        self.builder.table(rows, header=True if flagged else None)


def _rows(table: XmlElement) -> Iterator[XmlElement]:
    for child in table:
        if local(child) == "tr":
            yield child
        elif local(child) in ("sdt", "sdtContent", "customXml"):
            yield from _rows(child)


def _row(row: XmlElement) -> list[str]:
    """A row's cells; a cell merged over columns fills only its first."""
    cells: list[str] = []
    for cell in _cells(row):
        paragraphs = ("".join(_runs(p)) for p in cell.iter("{*}p"))
        span = cell.find("./{*}tcPr/{*}gridSpan")
        width = attribute(span, "val") if span is not None else None
        cells.append("\n".join(paragraphs))
        cells.extend([""] * (min(int(width), 64) - 1 if width and width.isdecimal() else 0))
    return cells


def _cells(row: XmlElement) -> Iterator[XmlElement]:
    for child in row:
        if local(child) == "tc":
            yield child
        elif local(child) in ("sdt", "sdtContent", "customXml"):
            yield from _cells(child)


def _runs(element: XmlElement) -> Iterator[str]:
    """The characters of a paragraph: no deleted text, no field codes, no text boxes."""
    for child in element:
        name = local(child)
        if name == "t":
            yield child.text or ""
        elif name == "tab":
            yield "\t"
        elif name in ("br", "cr"):
            yield "\n"
        elif name == "noBreakHyphen":
            yield "-"
        elif name not in ("pPr", "rPr", "del", "moveFrom", "instrText", "txbxContent", "Fallback"):
            yield from _runs(child)


def _is_item(number: tuple[str, int] | None, style: str) -> bool:
    return number[0] != "0" if number is not None else style.lower().startswith("list")


def _in_fallback(box: XmlElement, top: XmlElement) -> bool:
    """True for the legacy twin of a drawing, and for a box in a box (read with the outer one)."""
    for ancestor in box.iterancestors():
        if ancestor is top:
            return False
        if local(ancestor) in ("Fallback", "txbxContent"):
            return True
    return False


def _member(archive: zipfile.ZipFile, names: list[str], name: str) -> XmlElement | None:
    return read_xml(archive.read(name)) if name in names else None
