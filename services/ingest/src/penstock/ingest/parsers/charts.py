"""Charts of Office files: the numbers they were drawn from, as a table.

ECMA-376 part 1, section 21.2; every kind of chart keeps its series the same way.
"""

from penstock.ingest.document import DocumentBuilder
from penstock.ingest.parsers.xmltree import XmlElement, local


def add_chart(builder: DocumentBuilder, chart: XmlElement, page: int | None = None) -> None:
    """Add a chart part: its title, then a row for each category with a cell for each series."""
    title = chart.find(".//{*}chart/{*}title")
    if title is not None:
        builder.paragraph("".join(t.text or "" for t in title.iter("{*}t")), page)
    series = [element for element in chart.iter() if local(element) == "ser"]
    if not series:
        return
    names = [" ".join(_points(one.find("{*}tx")).values()) for one in series]
    labels = _axis(series[0], "cat", "xVal")
    columns = [_axis(one, "val", "yVal") for one in series]
    indices = sorted(set(labels).union(*columns))
    rows = [[labels.get(i, ""), *(column.get(i, "") for column in columns)] for i in indices]
    builder.table([["", *names], *rows], header=True, page=page)


def _axis(series: XmlElement, *names: str) -> dict[int, str]:
    return next(
        (_points(found) for name in names if (found := series.find(f"{{*}}{name}")) is not None), {}
    )


def _points(element: XmlElement | None) -> dict[int, str]:
    """The cached values below an element by their index."""
    if element is None:
        return {}
    return {
        int(point.get("idx", "0")): value.text or ""
        for point in element.iter("{*}pt")
        if (value := point.find("{*}v")) is not None
    }
