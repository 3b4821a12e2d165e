"""Files that are made to hurt whoever reads them."""

import zlib
from functools import cache
from io import BytesIO
from zipfile import ZIP_DEFLATED, ZipFile

MIB = 2**20

BOMBS: dict[str, dict[str, bytes]] = {
    "docx": {"word/document.xml": b""},
    "xlsx": {
        "[Content_Types].xml": b"<Types xmlns='http://schemas.openxmlformats.org/package/2006/content-types'>"
        b"<Override PartName='/xl/workbook.xml' ContentType='application/vnd.openxmlformats-officedocument"
        b".spreadsheetml.sheet.main+xml'/></Types>",
        "xl/_rels/workbook.xml.rels": b"<Relationships xmlns='http://schemas.openxmlformats.org/package/2006/"
        b"relationships'><Relationship Id='r' Target='worksheets/sheet1.xml' Type='http://schemas.openxml"
        b"formats.org/officeDocument/2006/relationships/worksheet'/></Relationships>",
        "xl/workbook.xml": b"<workbook xmlns='http://schemas.openxmlformats.org/spreadsheetml/2006/main' "
        b"xmlns:r='http://schemas.openxmlformats.org/officeDocument/2006/relationships'><sheets>"
        b"<sheet name='a' sheetId='1' r:id='r'/></sheets></workbook>",
        "xl/worksheets/sheet1.xml": b"",
    },
    "odt": {"mimetype": b"application/vnd.oasis.opendocument.text", "content.xml": b""},
    "epub": {
        "mimetype": b"application/epub+zip",
        "META-INF/container.xml": b"<container xmlns='urn:oasis:names:tc:opendocument:xmlns:container'>"
        b"<rootfiles><rootfile full-path='book.opf'/></rootfiles></container>",
        "book.opf": b"",
    },
}
"""The parts of a file of each kind that make it one; the last is the one that holds its text."""


def zip_bomb(kind: str, *, claimed: int | None = None) -> bytes:
    """An Office file or a book whose text unpacks to 640 MiB, or says that it unpacks to less."""
    data = bytearray(_bomb(kind))
    if claimed is not None:
        directory = data.rindex(b"PK\x01\x02")
        data[directory + 24 : directory + 28] = claimed.to_bytes(4, "little")
    return bytes(data)


@cache
def _bomb(kind: str) -> bytes:
    file = BytesIO()
    *others, text = BOMBS[kind]
    with ZipFile(file, "w", ZIP_DEFLATED, compresslevel=1) as archive:
        for name in others:
            archive.writestr(name, BOMBS[kind][name])
        with archive.open(text, "w") as part:
            for _ in range(640):
                part.write(b" " * MIB)
    return file.getvalue()


def pdf(*objects: bytes, trailer: bytes = b"") -> bytes:
    """A PDF of these objects, numbered from 1; the first is its catalogue."""
    body, offsets = bytearray(b"%PDF-1.7\n"), []
    for number, content in enumerate(objects, 1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = len(body)
    body += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    body += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    body += b"trailer\n<< /Size %d /Root 1 0 R %s >>\n" % (len(objects) + 1, trailer)
    body += b"startxref\n%d\n%%%%EOF\n" % table
    return bytes(body)


def encrypted_pdf() -> bytes:
    """Its trailer names an encryption that no empty password opens."""
    key = b"<" + b"41" * 32 + b">"
    return pdf(
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 99 99] >>",
        b"<< /Filter /Standard /V 2 /R 3 /Length 128 /P -44 /O %s /U %s >>" % (key, key),
        trailer=b"/Encrypt 4 0 R /ID [<43> <43>]",
    )


def endless_pdf(depth: int = 8) -> bytes:
    """2 KiB, one page: a form that draws a form eight times, and so on, `depth` deep.

    The last does nothing a hundred thousand times. PDFium reads all of it, in no more memory than
    for any page: 2 s at a depth of 4, and eight times as long for each one more.
    """
    return _nested(depth, 8, b"", b"q Q " * 100_000)


def greedy_pdf() -> bytes:
    """3 KiB, one page: the same with a word at the end of each, which PDFium keeps: gigabytes."""
    return _nested(12, 4, b"/Font << /T 4 0 R >>", b"BT /T 1 Tf (x) Tj ET")


def _nested(depth: int, width: int, resources: bytes, last: bytes) -> bytes:
    forms = [(b"/XObject << /F %d 0 R >>" % (7 + n), b"/F Do " * width) for n in range(depth - 1)]
    return pdf(
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 5 0 R /Resources "
        b"<< /XObject << /F 6 0 R >> /Font << /T 4 0 R >> >> >>",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        _stream(b"", b"BT /T 12 Tf 50 700 Td (Water flows.) Tj ET /F Do"),
        *(
            _stream(b"/Type /XObject /Subtype /Form /BBox [0 0 612 792] /Resources << %s >>" % r, c)
            for r, c in [*forms, (resources, last)]
        ),
    )


def _stream(fields: bytes, content: bytes) -> bytes:
    packed = zlib.compress(content, 9)
    return b"<< %s /Filter /FlateDecode /Length %d >>\nstream\n%s\nendstream" % (
        fields, len(packed), packed,
    )  # fmt: skip
