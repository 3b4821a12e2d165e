"""PPTX by python-pptx: each slide a heading and a page, its shapes in order, its notes last."""

from collections.abc import Iterable, Iterator
from io import BytesIO
from typing import Any

from pptx import Presentation
from pptx.exc import PackageNotFoundError

from penstock.ingest.detect import ARCHIVE_ERRORS, Detected
from penstock.ingest.document import DocumentBuilder, Parsed
from penstock.ingest.failures import Unreadable
from penstock.ingest.parsers.charts import add_chart
from penstock.ingest.parsers.xmltree import XmlError


def parse_pptx(data: bytes, detected: Detected) -> Parsed:  # noqa: ARG001
    builder = DocumentBuilder()
    try:
        presentation = Presentation(BytesIO(data))
        for number, slide in enumerate(presentation.slides, 1):
            _add_slide(builder, slide, number)
        title = presentation.core_properties.title
    except (*ARCHIVE_ERRORS, PackageNotFoundError, XmlError) as error:
        raise Unreadable(f"The PowerPoint file is damaged: {error}.", type="damaged") from error
    return builder.build("pptx", title)


def _add_slide(builder: DocumentBuilder, slide: Any, number: int) -> None:
    title = slide.shapes.title
    heading = title.text_frame.text.strip() if title is not None else ""
    builder.heading(heading or f"Slide {number}", 1, number)
    for shape in _flat(slide.shapes):
        if title is None or shape.shape_id != title.shape_id:
            _add_shape(builder, shape, number)
    if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
        builder.paragraph(slide.notes_slide.notes_text_frame.text, number)


def _flat(shapes: Iterable[Any]) -> Iterator[Any]:
    for shape in shapes:
        if hasattr(shape, "shapes"):
            yield from _flat(shape.shapes)
        else:
            yield shape


def _add_shape(builder: DocumentBuilder, shape: Any, page: int) -> None:
    if shape.has_text_frame:
        paragraphs = [p for p in shape.text_frame.paragraphs if p.text.strip()]
        if len(paragraphs) > 1:
            builder.items((p.text for p in paragraphs), page)
        elif paragraphs:
            builder.paragraph(paragraphs[0].text, page)
    elif getattr(shape, "has_table", False) and shape.has_table:
        table = shape.table
        rows = [[cell.text for cell in row.cells] for row in table.rows]
        builder.table(rows, header=True if table.first_row else None, page=page)
    elif getattr(shape, "has_chart", False) and shape.has_chart:
        add_chart(builder, shape.chart.part._element, page)  # noqa: SLF001
