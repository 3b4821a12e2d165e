"""One port for every parser: bytes in, `Parsed` out.

A parser module is imported when its type first appears: a worker that only ever sees Markdown
stays small.
"""

from collections.abc import Callable
from importlib import import_module

from penstock.ingest.detect import Detected, FileType, detect
from penstock.ingest.document import Parsed
from penstock.ingest.failures import Unreadable

Parser = Callable[[bytes, Detected], Parsed]

_FAST = {
    FileType.TEXT: "plain:parse_text",
    FileType.MARKDOWN: "markdown:parse_markdown",
    FileType.HTML: "html:parse_html",
    FileType.CSV: "delimited:parse_csv",
    FileType.JSON: "structured:parse_json",
    FileType.XML: "structured:parse_xml",
    FileType.PDF: "pdf:parse_pdf",
    FileType.DOCX: "word:parse_docx",
    FileType.XLSX: "spreadsheet:parse_xlsx",
    FileType.PPTX: "slides:parse_pptx",
    FileType.OPEN_DOCUMENT: "opendocument:parse_opendocument",
    FileType.EPUB: "epub:parse_epub",
    FileType.EMAIL: "mail:parse_email",
    FileType.WEBVTT: "markup:parse_webvtt",
    FileType.LATEX: "markup:parse_latex",
    FileType.ASCIIDOC: "markup:parse_asciidoc",
}

# Where nothing was found there is nothing: `unstructured` reads these as bare text or not at all.
_PLAIN = frozenset(
    (
        FileType.TEXT, FileType.MARKDOWN, FileType.JSON, FileType.WEBVTT, FileType.LATEX,
        FileType.ASCIIDOC, FileType.OPEN_DOCUMENT, FileType.EPUB,
    )
)  # fmt: skip


def parse(data: bytes, filename: str | None = None) -> Parsed:
    """The text and elements of a file of any type that Penstock reads.

    `unstructured` takes the types without a fast parser and whatever the fast one finds nothing
    in. Raises `Unreadable`; a result always has at least one element.
    """
    detected = detect(data, filename)
    fast = _FAST.get(detected.type)
    parsed = _load(fast)(data, detected) if fast is not None else None
    if parsed is None or (not parsed.elements and detected.type not in _PLAIN):
        parsed = _load("longtail:parse_longtail")(data, detected)
    if not parsed.elements:
        raise Unreadable(
            f"No text was found in the document ({detected.type} by {parsed.converter}).",
            type="no_text",
        )
    return parsed


def _load(name: str) -> Parser:
    module, _, function = name.partition(":")
    parser: Parser = getattr(import_module(f"{__name__}.{module}"), function)
    return parser


def decoded(data: bytes, detected: Detected) -> str:
    """The characters of a text format; a stray byte becomes U+FFFD rather than a failure."""
    return data.decode(detected.encoding or "utf-8", "replace")
