"""Word, Excel and PowerPoint as a person sees them."""

from collections.abc import Callable
from io import BytesIO

import pytest
from docx import Document
from docx.oxml.ns import qn
from openpyxl import Workbook
from pptx import Presentation
from pptx.util import Inches

from penstock.common.events import ElementKind
from penstock.ingest.document import Parsed
from penstock.ingest.failures import Unreadable
from penstock.ingest.parsers import parse
from penstock.ingest.parsers.numbering import shown


def kinds(parsed: Parsed) -> list[tuple[str, str]]:
    return [
        (element.kind.value, parsed.text[element.span.start : element.span.end])
        for element in parsed.elements
    ]


def docx_file() -> bytes:
    document = Document()
    document.core_properties.title = "Pumps"
    document.add_heading("Pump", 1)
    document.add_paragraph("It pumps water.")
    document.add_paragraph("First", style="List Bullet")
    document.add_paragraph("Second", style="List Bullet")
    table = document.add_table(2, 2)
    for cell, text in zip(
        (cell for row in table.rows for cell in row.cells),
        ("Model", "Price", "X-200", "40"),
        strict=True,
    ):
        cell.text = text
    document.add_heading("Care", 2)
    document.add_paragraph("Clean it.")
    document.sections[0].footer.paragraphs[0].text = "Confidential"
    return saved(document.save)


def saved(save: Callable[[BytesIO], object]) -> bytes:
    file = BytesIO()
    save(file)
    return file.getvalue()


def test_docx_keeps_the_order_of_text_and_tables() -> None:
    parsed = parse(docx_file(), "pumps.docx")
    assert parsed.title == "Pumps"
    assert kinds(parsed) == [
        ("title", "Pump"),
        ("paragraph", "It pumps water."),
        ("list", "First\nSecond"),
        ("table", "Model: X-200 | Price: 40"),
        ("title", "Care"),
        ("paragraph", "Clean it."),
        ("paragraph", "Confidential"),
    ]
    assert parsed.elements[-2].heading_path == ("Pump", "Care")


def test_docx_shows_the_numbers_that_word_counts() -> None:
    """A reader cites "2.1"; the file only says how to count."""
    document = Document()
    for text in ("Fill", "Start", "Stop"):
        document.add_paragraph(text, style="List Number")
    numbering = document.part.numbering_part.element
    number = document.styles["List Number"].element.pPr.numPr.numId.val
    list_id = numbering.num_having_numId(number).abstractNumId.val
    shape = next(e for e in numbering if e.get(qn("w:abstractNumId")) == str(list_id))
    shape.find(qn("w:lvl")).find(qn("w:lvlText")).set(qn("w:val"), "Step %1.")
    assert parse(saved(document.save)).text == "Step 1. Fill\nStep 2. Start\nStep 3. Stop"


@pytest.mark.parametrize(
    ("number", "shape", "expected"),
    [(3, "decimal", "3"), (3, "lowerLetter", "c"), (28, "upperLetter", "BB"), (9, "lowerRoman", "ix"),
     (1994, "upperRoman", "MCMXCIV")],
)  # fmt: skip
def test_numbers_are_written_as_the_list_says(number: int, shape: str, expected: str) -> None:
    assert shown(number, shape) == expected


def test_xlsx_heads_each_sheet_and_names_each_cell() -> None:
    book = Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.title = "Prices"
    for row in (["Price list"], ["Model", "Price"], ["X-200", 40.0], [], ["Total", 40.5]):
        sheet.append(row)
    book.create_sheet("Stock").append(["none"])
    parsed = parse(saved(book.save), "no-extension")
    assert kinds(parsed) == [
        ("title", "Prices"),
        ("paragraph", "Price list"),
        ("table", "Model: X-200 | Price: 40"),
        ("table", "Total | 40.5"),
        ("title", "Stock"),
        ("table", "none"),
    ]


def test_xlsx_shows_numbers_as_their_format_does() -> None:
    book = Workbook()
    sheet = book.active
    assert sheet is not None
    for value, shown_as in (
        (0.256, "0.0%"), (12.5, "#,##0.00"), (12.5, "0.00 [$€-407]"), (3.0, "General"), (7, "0"),
    ):  # fmt: skip
        sheet.append(["n", value])
        sheet.cell(sheet.max_row, 2).number_format = shown_as
    lines = parse(saved(book.save)).text.split("\n\n")[1].split("\n")
    assert lines == ["n | 25.6%", "n | 12.50", "n | 12.50 €", "n | 3", "n | 7"]


def test_xlsx_tells_tables_side_by_side_apart_but_not_a_row_with_a_gap() -> None:
    book = Workbook()
    sheet = book.active
    assert sheet is not None
    for row in (["a", None, None], ["b", None, "Model"], ["c", None, "X"]):
        sheet.append(row)
    gap = book.create_sheet("gap")
    for name, amount in (("Revenue", 100), ("Cost", 90)):
        gap.append([name, None, amount])
    texts = [text for kind, text in kinds(parse(saved(book.save))) if kind == "table"]
    assert texts == ["a\nb\nc", "Model\nX", "Revenue | 100\nCost | 90"]


def test_pptx_reads_slides_tables_and_notes_with_their_page() -> None:
    show = Presentation()
    slide = show.slides.add_slide(show.slide_layouts[5])
    slide.shapes.title.text = "Pumps"
    table = slide.shapes.add_table(2, 2, *(Inches(1),) * 4).table
    for index, text in enumerate(("Model", "Price", "X-200", "40")):
        table.cell(index // 2, index % 2).text = text
    slide.notes_slide.notes_text_frame.text = "Say hello.\vTwice."
    parsed = parse(saved(show.save), None)
    assert kinds(parsed) == [
        ("title", "Pumps"),
        ("table", "Model: X-200 | Price: 40"),
        ("paragraph", "Say hello.\nTwice."),
    ]
    assert {element.page for element in parsed.elements} == {1}


def test_the_bytes_decide_and_the_name_only_between_kinds_of_text() -> None:
    assert parse(docx_file(), "wrong.pdf").converter == "docx"
    assert parse(b"# Pump\n\nIt pumps.", None).converter == "markdown"
    assert parse(b"# a comment\nprint(1)", "script.py").converter == "text"
    assert parse("Über".encode("cp1252"), "a.txt").text == "Über"
    assert parse("Über".encode("utf-16"), "a.txt").text == "Über"


def test_a_damaged_office_file_is_called_damaged() -> None:
    data = bytearray(docx_file())
    start = data.index(b"word/document.xml") + len("word/document.xml")
    data[start : start + 200] = b"\xff" * 200
    with pytest.raises(Unreadable, match="The Word file is damaged"):
        parse(bytes(data))


def test_every_element_lies_where_its_span_says() -> None:
    parsed = parse(docx_file())
    for element in parsed.elements:
        text = parsed.text[element.span.start : element.span.end]
        assert text == text.strip()
        assert "\n".join(parsed.text[r.start : r.end] for r in element.rows) in ("", text)
    assert ElementKind.TABLE in {element.kind for element in parsed.elements}
