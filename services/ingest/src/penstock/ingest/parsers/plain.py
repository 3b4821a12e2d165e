"""Plain text: paragraphs by blank lines, headings by the line of punctuation below them."""

import re

from penstock.ingest.detect import Detected
from penstock.ingest.document import DocumentBuilder, Parsed, clean
from penstock.ingest.parsers import decoded

_BLOCK = re.compile(r"\n[^\S\n]*\n+")
_UNDERLINED = re.compile(
    r"^(?P<text>\S[^\n]{0,150})\n(?P<mark>[=\-~^\"*+#])(?P=mark){2,}[^\S\n]*(?:\n|$)"
)
_ITEM = re.compile(r"^[^\S\n]*(?:[-*+•]|\d{1,3}[.)])[^\S\n]+")


def parse_text(data: bytes, detected: Detected) -> Parsed:
    builder = DocumentBuilder()
    marks: list[str] = []
    for block in _BLOCK.split(clean(decoded(data, detected))):
        add_block(builder, block.strip("\n"), marks)
    return builder.build("text")


def add_block(builder: DocumentBuilder, block: str, marks: list[str]) -> None:
    """Add one block; `marks` are the underlines seen so far, the first being the highest level."""
    heading = _UNDERLINED.match(block)
    if heading and heading["mark"] not in marks:
        marks.append(heading["mark"])
    if heading:
        builder.heading(heading["text"], marks.index(heading["mark"]) + 1)
        block = block[heading.end() :]
    lines = block.split("\n")
    if len(lines) > 1 and sum(bool(_ITEM.match(line)) for line in lines) == len(lines):
        builder.items(lines)
    else:
        builder.paragraph(block)
