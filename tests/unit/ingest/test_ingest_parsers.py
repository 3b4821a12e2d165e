"""Every type of file: its text in order, its tables as rows that explain themselves, its title."""

from email.message import EmailMessage
from io import BytesIO
from zipfile import ZipFile

import pytest

from penstock.ingest.document import Parsed
from penstock.ingest.failures import Unreadable
from penstock.ingest.parsers import parse


def kinds(parsed: Parsed) -> list[tuple[str, str]]:
    return [
        (element.kind.value, parsed.text[element.span.start : element.span.end])
        for element in parsed.elements
    ]


def test_markdown_keeps_headings_lists_code_and_tables() -> None:
    source = """---
title: The Manual
---
# Pump *X-200*

It pumps [water](https://example.org/water).
Every day.

1. Open the valve
2. Wait
   - ten seconds

```python
open_valve()
    wait()
```

## Prices

| Model | Price |
|-------|-------|
| X-200 | 40 EUR |
| X-300 |        |
"""
    parsed = parse(source.encode(), "manual.md")
    assert parsed.title == "The Manual"
    assert kinds(parsed) == [
        ("paragraph", "title: The Manual"),
        ("title", "Pump X-200"),
        ("paragraph", "It pumps water.\nEvery day."),
        ("list", "1. Open the valve\n2. Wait\nten seconds"),
        ("code", "open_valve()\n    wait()"),
        ("title", "Prices"),
        ("table", "Model: X-200 | Price: 40 EUR\nModel: X-300"),
    ]
    assert parsed.elements[-1].heading_path == ("Pump X-200", "Prices")
    assert len(parsed.elements[-1].rows) == 2


def test_html_reads_what_a_browser_shows() -> None:
    source = """<!DOCTYPE html><html><head><title>Pump</title><style>p {}</style></head><body>
    <nav>Home</nav><script>alert(1)</script>
    <h1>Pump <em>X-200</em></h1><div>It   pumps <b>water</b>.<br>Daily.<p>More.</p></div>
    <ul><li>One</li><li>Two<ul><li>Inner</li></ul></li></ul>
    <table><caption>Prices</caption><tr><th>Model</th><th>Price</th></tr>
    <tr><td rowspan=2>X-200</td><td>40 EUR</td></tr><tr><td>41 EUR</td></tr></table>
    <pre>  a
  b</pre></body></html>"""
    parsed = parse(source.encode(), None)
    assert parsed.converter == "html"
    assert parsed.title == "Pump"
    assert kinds(parsed) == [
        ("title", "Pump X-200"),
        ("paragraph", "It pumps water.\nDaily."),
        ("paragraph", "More."),
        ("list", "One\nTwo\nInner"),
        ("paragraph", "Prices"),
        ("table", "Model: X-200 | Price: 40 EUR\nModel: X-200 | Price: 41 EUR"),
        ("code", "  a\n  b"),
    ]


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_csv_finds_its_delimiter_and_names_its_cells(mark: str) -> None:
    rows = [["Name", "City"], ["Ada", '"Bath, UK"'], ["Bob", "Rome"]]
    source = "\n".join(mark.join(row) for row in rows)
    assert kinds(parse(source.encode("utf-8-sig"), "people.csv")) == [
        ("table", "Name: Ada | City: Bath, UK\nName: Bob | City: Rome")
    ]


def test_csv_without_a_header_keeps_its_first_row() -> None:
    assert parse(b"1,2\n3,4\n", "numbers.csv").text == "1 | 2\n3 | 4"


def test_json_records_become_lines_with_names() -> None:
    source = (
        b'{"title": "Pumps", "items": [{"model": "X-200", "price": {"eur": 40}}, {"model": "Y"}]}'
    )
    parsed = parse(source, "pumps.json")
    assert parsed.title == "Pumps"
    assert parsed.text.endswith("items\n\nmodel: X-200 | price.eur: 40\nmodel: Y")
    assert parse(b'{"a": 1}\n{"a": 2}\n', "pumps.jsonl").text == "a: 1\na: 2"


def test_xml_reads_text_records_and_titles_but_expands_nothing() -> None:
    source = b"""<?xml version="1.0"?><!DOCTYPE d [<!ENTITY e SYSTEM "file:///etc/passwd">]>
    <d><sec><title>Pumps</title><p>Made of <b>steel</b>. &e;</p>
    <pump><model>X-200</model><price>40</price></pump></sec></d>"""
    assert kinds(parse(source, None)) == [
        ("title", "Pumps"),
        ("paragraph", "Made of steel."),
        ("list", "model: X-200 | price: 40"),
    ]


def pdf_file(*pages: str) -> bytes:
    """A PDF with a large heading over one line of text on every page, written by hand."""
    objects = [b"<</Type/Catalog/Pages 2 0 R>>"]
    kids = " ".join(f"{4 + 2 * n} 0 R" for n in range(len(pages)))
    objects.append(f"<</Type/Pages/Kids[{kids}]/Count {len(pages)}>>".encode())
    objects.append(b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>")
    for n, text in enumerate(pages):
        content = (
            text and f"BT /F1 24 Tf 50 700 Td (Part {n + 1}) Tj /F1 10 Tf 0 -40 Td ({text}) Tj ET"
        )
        objects.append(
            f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents {5 + 2 * n} 0 R"
            "/Resources<</Font<</F1 3 0 R>>>>>>".encode()
        )
        objects.append(f"<</Length {len(content)}>>stream\n{content}\nendstream".encode())
    body = b"%PDF-1.4\n"
    offsets = []
    for number, item in enumerate(objects, 1):
        offsets.append(len(body))
        body += b"%d 0 obj%s endobj\n" % (number, item)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    size = len(objects) + 1
    return b"%sxref\n0 %d\n0000000000 65535 f \n%strailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (
        body, size, table, size, len(body),
    )  # fmt: skip


def test_pdf_has_pages_and_headings_by_size() -> None:
    parsed = parse(pdf_file("It pumps water. " * 3, "It needs oil. " * 3), "pumps.pdf")
    assert kinds(parsed) == [
        ("title", "Part 1"),
        ("paragraph", ("It pumps water. " * 3).strip()),
        ("title", "Part 2"),
        ("paragraph", ("It needs oil. " * 3).strip()),
    ]
    assert [element.page for element in parsed.elements] == [1, 1, 2, 2]


def test_email_tells_who_wrote_what_and_names_attachments() -> None:
    message = EmailMessage()
    message["Subject"] = "Pump order"
    message["From"] = "ada@example.org"
    message["To"] = "bob@example.org"
    message["Date"] = "Fri, 20 Nov 2026 10:00:00 +0000"
    message.set_content("Please send two pumps.\n\nAda")
    message.add_attachment(b"x", maintype="image", subtype="png", filename="plan.png")
    parsed = parse(message.as_bytes(), None)
    assert parsed.title == "Pump order"
    assert "From: ada@example.org\nTo: bob@example.org" in parsed.text
    assert parsed.text.endswith("Please send two pumps.\n\nAda\n\nAttachments: plan.png")


def test_email_in_html_alone_is_read_as_html() -> None:
    message = EmailMessage()
    message["Subject"] = "Order"
    message["From"] = "ada@example.org"
    message.set_content("<p>Two <b>pumps</b></p>", subtype="html")
    assert parse(message.as_bytes(), "order.eml").text.endswith("Two pumps")


def zipped(**members: str) -> bytes:
    file = BytesIO()
    with ZipFile(file, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return file.getvalue()


def test_open_document_reads_headings_lists_and_tables() -> None:
    content = """<office:document-content xmlns:office="o" xmlns:text="t" xmlns:table="b"><office:body>
    <office:text><text:h text:outline-level="1">Pump</text:h><text:p>It<text:s/>pumps.</text:p>
    <text:list><text:list-item><text:p>One</text:p></text:list-item></text:list>
    <table:table><table:table-row><table:table-cell><text:p>Model</text:p></table:table-cell>
    <table:table-cell><text:p>Price</text:p></table:table-cell></table:table-row>
    <table:table-row><table:table-cell><text:p>X</text:p></table:table-cell>
    <table:table-cell><text:p>4</text:p></table:table-cell></table:table-row></table:table>
    </office:text></office:body></office:document-content>"""
    data = zipped(**{"mimetype": "application/vnd.oasis.opendocument.text", "content.xml": content})
    assert kinds(parse(data)) == [
        ("title", "Pump"),
        ("paragraph", "It pumps."),
        ("list", "One"),
        ("table", "Model: X | Price: 4"),
    ]


def test_epub_reads_the_pages_of_its_spine_in_order() -> None:
    container = '<c><rootfiles><rootfile full-path="O/p.opf"/></rootfiles></c>'
    package = """<package><metadata><title>Pumps</title></metadata><manifest>
    <item id="b" href="b.xhtml"/><item id="a" href="a.xhtml"/></manifest>
    <spine><itemref idref="a"/><itemref idref="b"/></spine></package>"""
    pages = {f"O/{n}.xhtml": f"<html><body><p>{n}</p></body></html>" for n in "ab"}
    data = zipped(
        **{"mimetype": "application/epub+zip", "META-INF/container.xml": container,
           "O/p.opf": package, **pages}
    )  # fmt: skip
    parsed = parse(data)
    assert (parsed.title, parsed.text) == ("Pumps", "a\n\nb")


def test_plain_text_knows_underlined_headings() -> None:
    parsed = parse(b"Pumps\n=====\n\nThey pump.\nAlways.\n\nCare\n----\nClean it.\n", "pump.txt")
    assert kinds(parsed) == [
        ("title", "Pumps"),
        ("paragraph", "They pump.\nAlways."),
        ("title", "Care"),
        ("paragraph", "Clean it."),
    ]


@pytest.mark.parametrize(
    ("source", "filename", "expected"),
    [
        (b"WEBVTT\n\n1\n00:00.000 --> 00:02.000\n<v Ada>Hello <i>there</i>\n", None, "Ada: Hello there"),
        (b"= Pump\n\nIt pumps.\n\n* One\n* Two\n", "pump.adoc", "Pump\n\nIt pumps.\n\nOne\nTwo"),
        (b"\\documentclass{article}\n\\section{Pump}\nIt \\emph{pumps}. % yes\n", None, "Pump\n\nIt pumps ."),
    ],
)  # fmt: skip
def test_light_markups_lose_their_marks(source: bytes, filename: str | None, expected: str) -> None:
    assert parse(source, filename).text == expected


def test_what_no_store_can_keep_is_left_out_of_the_text() -> None:
    assert parse(b"a\x07b\r\nc\x0bd", "a.txt").text == "ab\nc\nd"


@pytest.mark.parametrize(
    ("data", "reason", "message"),
    [
        (b"", "empty", "is empty"),
        (b" \n\t", "empty", "is empty"),
        (b"\x7fELF\x02\x01\x01" + bytes(64), "unknown_type", "not one that Penstock reads"),
        (b"PK\x03\x04 broken", "damaged", "damaged archive"),
        (zipped(**{"a.txt": "x"}), "unknown_type", "one by one"),
        (b"%PDF-1.4 broken", "damaged", "cannot be opened"),
        (b"<?xml version='1.0'?><a>", "damaged", "XML cannot be read"),
        (b"WEBVTT", "no_text", "No text was found"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "EncryptedPackage".encode("utf-16-le"), "encrypted",
         "protected by a password"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_says_why(data: bytes, reason: str, message: str) -> None:
    with pytest.raises(Unreadable, match=message) as caught:
        parse(data)
    assert caught.value.type == reason


def test_an_absent_converter_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    word = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "WordDocument".encode("utf-16-le")
    with pytest.raises(Unreadable, match=r"LibreOffice \(soffice\), which is not installed"):
        parse(word)
    with pytest.raises(Unreadable, match="Tesseract"):
        parse(pdf_file(""))


def test_a_zip_bomb_is_refused_before_it_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.ingest.detect.MAX_UNPACKED_BYTES", 2**20)
    data = zipped(**{"word/document.xml": " " * (2**20 + 1)})
    with pytest.raises(Unreadable, match="unpacks to 1 MiB; the limit is 1 MiB"):
        parse(data)
