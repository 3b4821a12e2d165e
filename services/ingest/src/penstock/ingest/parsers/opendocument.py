"""OpenDocument (ODT, ODS, ODP) straight from content.xml, OASIS OpenDocument 1.3."""

import zipfile
from collections.abc import Iterator
from io import BytesIO

from penstock.ingest.detect import ARCHIVE_ERRORS, Detected, encrypted
from penstock.ingest.document import DocumentBuilder, Parsed
from penstock.ingest.failures import Unreadable
from penstock.ingest.parsers.xmltree import XmlElement, XmlError, local, read_xml

_MAX_REPEATED = 100


def parse_opendocument(data: bytes, detected: Detected) -> Parsed:  # noqa: ARG001
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            names = archive.namelist()
            manifest = "META-INF/manifest.xml"
            if manifest in names and b"encryption-data" in archive.read(manifest):
                raise encrypted("OpenDocument file")
            content = read_xml(archive.read("content.xml"))
            meta = read_xml(archive.read("meta.xml")) if "meta.xml" in names else None
    except (*ARCHIVE_ERRORS, XmlError) as error:
        raise Unreadable(f"The OpenDocument file is damaged: {error}.", type="damaged") from error
    builder = DocumentBuilder()
    body = content.find("{*}body")
    pages = iter(range(1, 1_000_000))
    _blocks(builder, body if body is not None else content, pages, None)
    title = meta.find(".//{*}title") if meta is not None else None
    return builder.build("opendocument", title.text if title is not None else None)


def _blocks(
    builder: DocumentBuilder, parent: XmlElement, pages: Iterator[int], page: int | None
) -> None:
    for child in parent:
        name = local(child)
        if name == "h":
            builder.heading(_text(child), int(_attribute(child, "outline-level") or 1), page)
        elif name == "p":
            builder.paragraph(_text(child), page)
            _frames(builder, child, pages, page)
        elif name == "list":
            builder.items(_items(child), page)
        elif name == "table":
            _table(builder, child, page)
        elif name == "page":
            _blocks(builder, child, pages, next(pages))
        elif name not in ("tracked-changes", "forms", "settings", "annotation", "sequence-decls"):
            _blocks(builder, child, pages, page)


def _frames(
    builder: DocumentBuilder, paragraph: XmlElement, pages: Iterator[int], page: int | None
) -> None:
    """Text boxes anchored in a paragraph follow it."""
    for box in paragraph.iter("{*}text-box"):
        _blocks(builder, box, pages, page)


def _items(element: XmlElement) -> Iterator[str]:
    for child in element:
        if local(child) in ("p", "h"):
            yield _text(child)
        else:
            yield from _items(child)


def _table(builder: DocumentBuilder, table: XmlElement, page: int | None) -> None:
    """A sheet is named and its blank rows part it into tables; a table in a text is one table."""
    is_sheet = local(table.getparent()) == "spreadsheet"
    if is_sheet:
        builder.heading(_attribute(table, "name") or "", 1, page)
    block: list[list[str]] = []
    for row in table.iter("{*}table-row"):
        cells = _cells(row)
        if any(cells) or not is_sheet:
            block.append(cells)
        else:
            builder.table(block, page=page)
            block = []
    builder.table(block, page=page)


def _cells(row: XmlElement) -> list[str]:
    """Cells, repeated ones as often as they say (spreadsheets pad with thousands of blanks)."""
    cells: list[str] = []
    for cell in row:
        if local(cell) not in ("table-cell", "covered-table-cell"):
            continue
        repeated = _attribute(cell, "number-columns-repeated") or "1"
        text = "\n".join(_text(p) for p in cell.iter("{*}p", "{*}h"))
        cells.extend([text] * min(int(repeated), _MAX_REPEATED))
    while cells and not cells[-1]:
        cells.pop()
    return cells


def _text(element: XmlElement) -> str:
    return "".join(_characters(element))


def _characters(element: XmlElement) -> Iterator[str]:
    """Spaces and tabs are elements here; notes and text boxes are read elsewhere."""
    yield element.text or ""
    for child in element:
        name = local(child)
        if name == "s":
            yield " "
        elif name in ("tab", "line-break"):
            yield "\t" if name == "tab" else "\n"
        elif name not in ("annotation", "text-box", "object", "image"):
            yield from _characters(child)
        yield child.tail or ""


def _attribute(element: XmlElement, name: str) -> str | None:
    return next(
        (str(value) for key, value in element.attrib.items() if str(key).endswith("}" + name)), None
    )
