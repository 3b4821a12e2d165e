"""What a file is, told from its bytes; its name only decides between kinds of text."""

import re
import zipfile
import zlib
from dataclasses import dataclass
from enum import StrEnum
from io import BytesIO
from pathlib import PurePath

import puremagic

from penstock.ingest.failures import Unreadable

MAX_UNPACKED_BYTES = 512 * 1024 * 1024
"""Bound on what an archive (Office file, EPUB) may unpack to, by its own directory."""

ARCHIVE_ERRORS = (zipfile.BadZipFile, zlib.error, KeyError, EOFError, NotImplementedError)
"""What zipfile raises for a damaged archive, or one that lacks a part."""


class FileType(StrEnum):
    TEXT = "text"
    MARKDOWN = "markdown"
    HTML = "html"
    CSV = "csv"
    JSON = "json"
    XML = "xml"
    PDF = "pdf"
    DOCX = "docx"
    XLSX = "xlsx"
    PPTX = "pptx"
    OPEN_DOCUMENT = "open_document"
    EPUB = "epub"
    EMAIL = "email"
    RTF = "rtf"
    WEBVTT = "webvtt"
    LATEX = "latex"
    ASCIIDOC = "asciidoc"
    DOC = "doc"
    XLS = "xls"
    PPT = "ppt"
    MSG = "msg"
    IMAGE = "image"


_BY_SUFFIX = {
    ".md": FileType.MARKDOWN, ".markdown": FileType.MARKDOWN, ".mdx": FileType.MARKDOWN,
    ".html": FileType.HTML, ".htm": FileType.HTML, ".xhtml": FileType.HTML,
    ".csv": FileType.CSV, ".tsv": FileType.CSV,
    ".json": FileType.JSON, ".jsonl": FileType.JSON, ".ndjson": FileType.JSON,
    ".boxnote": FileType.JSON,
    ".xml": FileType.XML, ".eml": FileType.EMAIL, ".vtt": FileType.WEBVTT,
    ".tex": FileType.LATEX, ".latex": FileType.LATEX,
    ".adoc": FileType.ASCIIDOC, ".asciidoc": FileType.ASCIIDOC, ".asc": FileType.ASCIIDOC,
}  # fmt: skip

# Streams that an OLE container of each kind must have; directory names are UTF-16.
_OLE_STREAMS = (
    ("WordDocument", FileType.DOC),
    ("Workbook", FileType.XLS),
    ("PowerPoint Document", FileType.PPT),
    ("__substg1.0_", FileType.MSG),
    ("Book", FileType.XLS),
)
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_IMAGES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\x00", b"MM\x00*")
_BOMS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))

_HTML = re.compile(r"<(?:!doctype\s+html|html|head|body|h1|article|div|p|table)\b", re.IGNORECASE)
_XHTML = re.compile(r"<(?:!doctype\s+html|html)\b", re.IGNORECASE)
_MAIL = re.compile(r"(?:[A-Za-z][A-Za-z0-9-]*:[ \t].*\n(?:[ \t].*\n)*){2,}")
_MAIL_FIELDS = re.compile(
    r"^(?:from|to|subject|date|received|message-id|mime-version):", re.IGNORECASE | re.MULTILINE
)
_MARKDOWN = re.compile(
    r"^(?:#{1,6} \S.*|```.*|\|?[ :]*-{3,}[ :]*\|[-| :]*|[^\n]+\n={3,}|- \[[ x]\] .*)$", re.MULTILINE
)
_LATEX = re.compile(r"\\(?:documentclass|begin\{document\})")


@dataclass(frozen=True, slots=True)
class Detected:
    type: FileType
    encoding: str | None = None
    """Of a text; None for a binary format."""


def detect(data: bytes, filename: str | None = None) -> Detected:
    """The type of a file; `Unreadable` names one that Penstock does not read."""
    if not data.strip(b"\x00 \t\r\n"):
        raise Unreadable("The document is empty.", type="empty")
    binary = _binary(data)
    if binary is not None:
        return Detected(binary)
    encoding = text_encoding(data)
    if encoding is None:
        raise Unreadable(
            f"The file type is not one that Penstock reads (it looks like {_guess(data)}).",
            type="unknown_type",
        )
    return Detected(_text_type(data[:65536].decode(encoding, "replace"), filename), encoding)


def text_encoding(data: bytes) -> str | None:
    """utf-8, utf-16 by its mark, else Windows-1252 for bytes that look like text; else None."""
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return encoding
    if b"\x00" in data[:65536]:
        return None
    try:
        data.decode()
    except UnicodeDecodeError:
        sample = data[:65536]
        controls = sum(byte < 9 or 13 < byte < 32 for byte in sample)
        return "cp1252" if controls < len(sample) / 200 else None
    return "utf-8"


def _binary(data: bytes) -> FileType | None:
    if b"%PDF-" in data[:1024]:
        return FileType.PDF
    if data.startswith(b"PK\x03\x04"):
        return _zip_type(data)
    if data.startswith(_OLE):
        return _ole_type(data)
    if data.startswith(b"{\\rtf"):
        return FileType.RTF
    if data.startswith(_IMAGES) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP"):
        return FileType.IMAGE
    return None


def _zip_type(data: bytes) -> FileType:
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            names = set(archive.namelist())
            _bound(archive)
            mimetype = archive.read("mimetype")[:200] if "mimetype" in names else b""
    except (*ARCHIVE_ERRORS, OSError, RuntimeError, ValueError) as error:
        raise Unreadable(f"The file is a damaged archive: {error}.", type="damaged") from error
    for member, kind in (
        ("word/document.xml", FileType.DOCX),
        ("xl/workbook.xml", FileType.XLSX),
        ("ppt/presentation.xml", FileType.PPTX),
    ):
        if member in names:
            return kind
    if mimetype.startswith(b"application/epub"):
        return FileType.EPUB
    if b"opendocument" in mimetype:
        return FileType.OPEN_DOCUMENT
    raise Unreadable(
        "Archives are not read: submit the files inside one by one.", type="unknown_type"
    )


def _bound(archive: zipfile.ZipFile) -> None:
    """Refuse a zip bomb before a parser unpacks it.

    The sizes in the archive's directory can lie: what then unpacks to more ends at the memory
    limit of the worker.
    """
    unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > MAX_UNPACKED_BYTES:
        raise Unreadable(
            f"The file unpacks to {unpacked // 2**20} MiB; the limit is "
            f"{MAX_UNPACKED_BYTES // 2**20} MiB.",
            type="too_large",
        )


def _ole_type(data: bytes) -> FileType:
    if "EncryptedPackage".encode("utf-16-le") in data:
        raise encrypted("Office file")
    for stream, kind in _OLE_STREAMS:
        if stream.encode("utf-16-le") in data:
            return kind
    raise Unreadable(
        "The file is an OLE container without a Word, Excel, PowerPoint or Outlook part.",
        type="unknown_type",
    )


def encrypted(what: str) -> Unreadable:
    return Unreadable(
        f"The {what} is protected by a password: remove the protection and submit it again.",
        type="encrypted",
    )


def _text_type(head: str, filename: str | None) -> FileType:
    """What the text itself says beyond doubt comes first, then its name, then what it looks like."""
    start = head.lstrip("\ufeff \t\r\n")
    if start.startswith("WEBVTT"):
        return FileType.WEBVTT
    if start.startswith("<?xml") and not _XHTML.search(start[:1024]):
        return FileType.XML
    named = _BY_SUFFIX.get(PurePath(filename or "").suffix.lower())
    if named is not None:
        return named
    if _HTML.match(start):
        return FileType.HTML
    if filename and "." in filename:
        return FileType.TEXT
    return _looks_like(head, start)


def _looks_like(head: str, start: str) -> FileType:
    mail = _MAIL.match(start.replace("\r\n", "\n"))
    if mail and len(_MAIL_FIELDS.findall(mail[0])) >= 2:
        return FileType.EMAIL
    if _LATEX.search(start[:4096]):
        return FileType.LATEX
    return FileType.MARKDOWN if _MARKDOWN.search(head) else FileType.TEXT


def _guess(data: bytes) -> str:
    try:
        return str(puremagic.from_string(data[:65536], mime=True)) or "unknown data"
    except (puremagic.PureError, ValueError):
        return "unknown data"
