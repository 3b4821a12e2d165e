"""Writes the sample documents in binary formats (PDF, DOCX, XLSX, PPTX) from the text below.

    uv run python tools/make_samples.py

The files are committed; run this only after a change of the text.
"""

from pathlib import Path

from docx import Document
from openpyxl import Workbook
from pptx import Presentation

HERE = Path(__file__).parent.parent / "samples"

WARRANTY = [
    ("Warranty terms", None),
    (
        None,
        "These terms hold for every gauge that Tarnwick Instruments sells to a public authority "
        "or a company. They do not hold for gauges on loan.",
    ),
    ("How long", None),
    (
        None,
        "The KLN-12 tide gauge carries a warranty of seven years from the day of installation. "
        "The smaller RIV-3 river gauge carries four years. Batteries are covered for eighteen "
        "months whatever they are built into.",
    ),
    ("What is not covered", None),
    (
        None,
        "Damage by ice, by ships' anchors and by opening the pressure cell is not covered. "
        "A cell whose blue seal is broken is repaired at the owner's cost.",
    ),
    ("How to claim", None),
    (
        None,
        "Send the serial number and a photograph to claims@tarnwick.example. A replacement "
        "leaves the Pellworth workshop within four working days.",
    ),
]

PRICES = [
    ("Article", "Product", "Range", "Price EUR", "Weeks to deliver"),
    ("RIV-3", "River gauge", "0 to 6 m", 1180, 3),
    ("RIV-5", "River gauge with logger", "0 to 10 m", 1640, 4),
    ("KLN-12", "Tide gauge", "0 to 20 m", 4375, 6),
    ("DAM-40", "Reservoir gauge", "0 to 60 m", 7920, 11),
    ("SKR-1", "Skerry radio link", "25 km", 890, 2),
]


def pdf(path: Path) -> None:
    """One page of text in Helvetica, written by hand: objects, then the table of their offsets."""
    lines: list[str] = ["BT", "1 0 0 1 64 780 Tm", "15 TL"]
    for heading, paragraph in WARRANTY:
        size, text, width = (14, heading, 60) if heading else (10, paragraph, 88)
        lines.append(f"/F1 {size} Tf T*")
        line = ""
        for word in str(text).split():
            if len(line) + len(word) > width:
                lines.append(f"({line.strip()}) Tj T*")
                line = ""
            line += f"{word} "
        lines.append(f"({line.strip()}) Tj T*")
    stream = "\n".join([*lines, "ET"]).encode("latin-1")
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R"
        b" /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        b"<< /Title (Tarnwick Instruments: warranty terms) >>",
    ]
    out = bytearray(b"%PDF-1.4\n")
    offsets = []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    out += b"trailer\n<< /Size %d /Root 1 0 R /Info 6 0 R >>\n" % (len(objects) + 1)
    out += b"startxref\n%d\n%%%%EOF\n" % table
    path.write_bytes(bytes(out))


def docx(path: Path) -> None:
    document = Document()
    document.core_properties.title = "Calibrating a pressure cell"
    document.add_heading("Calibrating a pressure cell", level=1)
    document.add_paragraph(
        "Every pressure cell is calibrated before it leaves the workshop and again after two "
        "years in the water. The work takes one person about ninety minutes."
    )
    document.add_heading("What you need", level=2)
    for item in ("the glass column in room 4", "a thermometer", "the calibration sheet"):
        document.add_paragraph(item, style="List Bullet")
    document.add_heading("Steps", level=2)
    document.add_paragraph(
        "Let the cell rest in the column for forty minutes at 12 degrees. Read it at five depths, "
        "from the surface down, and write the readings on the sheet."
    )
    document.add_paragraph(
        "A cell that is off by more than 3 millimetres at any depth is rejected and goes to "
        "Wilmet Orrin, who keeps the register of rejected cells."
    )
    table = document.add_table(rows=1, cols=3)
    table.style = "Table Grid"
    for cell, text in zip(table.rows[0].cells, ("Depth", "Tolerance", "Repeat"), strict=True):
        cell.text = text
    for row in (("0.5 m", "1 mm", "twice"), ("5 m", "2 mm", "twice"), ("20 m", "3 mm", "once")):
        for cell, text in zip(table.add_row().cells, row, strict=True):
            cell.text = text
    document.save(str(path))


def xlsx(path: Path) -> None:
    book = Workbook()
    book.properties.title = "Price list 2026"
    sheet = book.active
    assert sheet is not None
    sheet.title = "Price list 2026"
    for row in PRICES:
        sheet.append(row)
    book.save(path)


def pptx(path: Path) -> None:
    deck = Presentation()
    deck.core_properties.title = "Where Tarnwick goes in 2027"
    slides = [
        ("Where Tarnwick goes in 2027", ["For the partners' day in Pellworth"]),
        (
            "The Gannet",
            [
                "The Gannet is a gauge that floats: no pier, no cable",
                "First trials off Carrow Point in June 2027",
                "The project is led by Petronel Ashby",
            ],
        ),
        (
            "New markets",
            [
                "Denmark and the Faroe Islands from spring 2027",
                "A repair workshop in Esbjerg with nine people",
            ],
        ),
    ]
    for title, bullets in slides:
        slide = deck.slides.add_slide(deck.slide_layouts[1])
        slide.shapes.title.text = title
        slide.placeholders[1].text = "\n".join(bullets)
    deck.save(str(path))


def main() -> None:
    pdf(HERE / "warranty.pdf")
    docx(HERE / "calibration.docx")
    xlsx(HERE / "prices.xlsx")
    pptx(HERE / "outlook.pptx")


if __name__ == "__main__":
    main()
