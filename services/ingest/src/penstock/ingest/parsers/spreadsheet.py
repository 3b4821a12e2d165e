"""XLSX by openpyxl, streaming: each sheet a heading, each block of rows a table."""

import re
from datetime import date, datetime, time
from io import BytesIO
from itertools import chain, groupby
from typing import Any
from warnings import catch_warnings, simplefilter

from openpyxl import load_workbook
from openpyxl.utils.exceptions import InvalidFileException

from penstock.ingest.detect import ARCHIVE_ERRORS, Detected
from penstock.ingest.document import DocumentBuilder, Parsed
from penstock.ingest.failures import Unreadable

_FORMAT = re.compile(r"[#0,]*0(?:\.(?P<decimals>0+))?(?P<percent>%)?")
_CURRENCY = re.compile(r"[€£¥]|(?<=\[)\$(?=-)|\"\$\"|EUR|USD|GBP|CHF")
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
    except (*ARCHIVE_ERRORS, InvalidFileException, ValueError, SyntaxError) as error:
        raise Unreadable(f"The Excel file is damaged: {error}.", type="damaged") from error
    return builder.build("xlsx", title)


def _add_sheet(builder: DocumentBuilder, sheet: Any) -> None:
    sheet.reset_dimensions()  # what the file claims is often wrong
    block: list[list[str]] = []
    cells = 0
    for row in sheet.iter_rows():
        texts = [_text(cell.value, cell.number_format) for cell in row]
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
    """Rows between two blank ones; tables side by side, of different rows, are told apart."""
    width = max((len(row) for row in block), default=0)
    rows = [row + [""] * (width - len(row)) for row in block]
    columns = [list(column) for column in zip(*rows, strict=True)]
    runs = [list(run) for filled, run in groupby(columns, key=any) if filled]
    if len({_extent(run) for run in runs}) < len(runs):
        runs = [list(chain.from_iterable(runs))]
    for run in runs:
        _add_table(builder, [list(row) for row in zip(*run, strict=True) if any(row)])


def _extent(columns: list[list[str]]) -> tuple[int, int]:
    """First and last row with anything in it."""
    filled = [index for index, row in enumerate(zip(*columns, strict=True)) if any(row)]
    return filled[0], filled[-1]


def _add_table(builder: DocumentBuilder, rows: list[list[str]]) -> None:
    """A first row with a single cell is the table's caption."""
    while len(rows) > 2 and sum(map(bool, rows[0])) == 1 and sum(map(bool, rows[1])) > 1:
        builder.paragraph(" ".join(filter(None, rows.pop(0))))
    builder.table(rows)


def _text(value: object, shown_as: str = "General") -> str:
    """A cell as a person reads it: whole numbers without `.0`, dates without midnight, numbers
    with the decimals, percent and currency that their format shows.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return _number(value, shown_as)
    if isinstance(value, datetime):
        return str(value.date() if value.time() == time() else value)
    return value.isoformat() if isinstance(value, date | time) else str(value)


def _number(value: float, shown_as: str) -> str:
    shown = _FORMAT.search(shown_as.partition(";")[0]) if shown_as != "General" else None
    if shown is None:
        return f"{value:.15g}"
    percent = "%" if shown["percent"] else ""
    decimals = len(shown["decimals"] or "")
    number = f"{value * 100 if percent else value:.{decimals}f}{percent}"
    currency = _CURRENCY.search(shown_as)
    return f"{number} {currency[0]}" if currency else number
