"""CSV, TSV and their cousins: the delimiter from the data, each row one line."""

import csv
from collections import Counter
from io import StringIO

from penstock.ingest.detect import Detected
from penstock.ingest.document import DocumentBuilder, Parsed, clean, looks_like_header
from penstock.ingest.failures import Unreadable
from penstock.ingest.parsers import decoded

_DELIMITERS = ",;\t|"
_SAMPLE_ROWS = 50


def parse_csv(data: bytes, detected: Detected) -> Parsed:
    text = clean(decoded(data, detected))
    builder = DocumentBuilder()
    try:
        rows = list(csv.reader(StringIO(text), delimiter=delimiter(text)))
    except csv.Error as error:
        raise Unreadable(f"The CSV file cannot be read: {error}.", type="damaged") from error
    builder.table(rows, header=_has_header(rows))
    return builder.build("csv")


def delimiter(text: str) -> str:
    """The candidate that cuts the first rows into the same number (above one) of cells most often."""
    sample = text.split("\n", _SAMPLE_ROWS)[:_SAMPLE_ROWS]

    def agreement(candidate: str) -> tuple[int, int]:
        widths = Counter(len(row) for row in csv.reader(sample, delimiter=candidate) if row)
        width, rows = max(widths.items(), key=lambda item: (item[1], item[0]), default=(1, 0))
        return (rows, width) if width > 1 else (0, 0)

    return max(_DELIMITERS, key=agreement)


def _has_header(rows: list[list[str]]) -> bool:
    """A CSV file without a header is the exception: words in the first row are enough."""
    if len(rows) < 2 or len(rows[0]) < 2:
        return False
    return looks_like_header([[cell.strip() for cell in rows[0]], ["0"] * len(rows[0])])
