"""XLSX by openpyxl, streaming: each sheet a heading, each block of rows a table."""

import zipfile
from datetime import date, datetime, time
from io import BytesIO
from typing import Any
from warnings import catch_warnings, simplefilter

from openpyxl import load_workbook
from openpyxl.utils.exceptions import InvalidFileException

from penstock.ingest.detect import Detected
from penstock.ingest.document import DocumentBuilder, Parsed
from penstock.ingest.failures import Unreadable

_MAX_CELLS = 5_000_000


def parse_xlsx(data: bytes, detected: Detected) -> Parsed:  # noqa: ARG001
    builder = DocumentBuilder()
    try:
        with catch_warnings():
            simplefilter("ignore")  # openpyxl warns of styles and extensions that it leaves out
            workbook = load_workbook(BytesIO(data), read_only=True, data_only=True)
            for sheet in workbook.worksheets:
                builder.heading(sheet.title, 1)
                _add_sheet(builder, sheet)
            title = workbook.properties.title
    except (InvalidFileException, zipfile.BadZipFile, KeyError, ValueError, SyntaxError) as error:
        raise Unreadable(f"The Excel file is damaged: {error}.", type="damaged") from error
    return builder.build("xlsx", title)


def _add_sheet(builder: DocumentBuilder, sheet: Any) -> None:
    sheet.reset_dimensions()  # what the file claims is often wrong
    block: list[list[str]] = []
    cells = 0
    for row in sheet.iter_rows(values_only=True):
        texts = [_text(value) for value in row]
        cells += len(texts)
        if cells > _MAX_CELLS:
            raise Unreadable(
                f"The sheet {sheet.title!r} has more than {_MAX_CELLS} cells.", type="too_large"
            )
        if any(texts):
            block.append(texts)
        elif block:
            _add_block(builder, block)
            block = []
    _add_block(builder, block)


def _add_block(builder: DocumentBuilder, block: list[list[str]]) -> None:
    """Rows between two blank ones, without the columns that are blank in all of them.

    A first row with a single cell is the table's caption.
    """
    used = [any(column) for column in _columns(block)]
    rows = [[cell for cell, keep in zip(row, used, strict=False) if keep] for row in block]
    while len(rows) > 2 and sum(map(bool, rows[0])) == 1 and sum(map(bool, rows[1])) > 1:
        builder.paragraph(" ".join(filter(None, rows.pop(0))))
    builder.table(rows)


def _columns(block: list[list[str]]) -> list[list[str]]:
    width = max((len(row) for row in block), default=0)
    return [[row[index] for row in block if index < len(row)] for index in range(width)]


def _text(value: object) -> str:
    """A cell as a person reads it: whole numbers without `.0`, dates without midnight."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.15g}"
    if isinstance(value, datetime):
        return str(value.date() if value.time() == time() else value)
    return value.isoformat() if isinstance(value, date | time) else str(value)
