"""JSON and XML: each record a line of `name: value`, nesting as headings."""

import json
from collections.abc import Iterator
from typing import Any

from penstock.ingest.detect import Detected
from penstock.ingest.document import DocumentBuilder, Parsed
from penstock.ingest.failures import Unreadable
from penstock.ingest.parsers import decoded
from penstock.ingest.parsers.xmltree import XmlElement, XmlError, local, read_xml

_MAX_HEADING_DEPTH = 3
_MAX_DEPTH = 200

_HEADINGS = frozenset(("title", "head", "heading", "article-title"))
_SKIPPED = frozenset(("ref-list", "script", "style"))


def parse_json(data: bytes, detected: Detected) -> Parsed:
    """A JSON document, or one a line."""
    text = decoded(data, detected)
    try:
        value = _load(text)
        builder = DocumentBuilder()
        _add_json(builder, value, 1)
    except RecursionError as error:
        raise Unreadable("The JSON is nested too deeply.", type="damaged") from error
    title = value.get("title") if isinstance(value, dict) else None
    return builder.build("json", title if isinstance(title, str) else None)


def _load(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as whole:
        try:
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        except ValueError:
            raise Unreadable(f"The JSON cannot be read: {whole}.", type="damaged") from whole


def _add_json(builder: DocumentBuilder, value: Any, depth: int) -> None:
    if isinstance(value, list):
        builder.items(" | ".join(_flat(item, "")) for item in value)
    elif isinstance(value, dict):
        leaves = {k: v for k, v in value.items() if not isinstance(v, dict | list)}
        builder.items(_flat(leaves, ""))
        for key, inner in value.items():
            if key in leaves:
                continue
            if depth > _MAX_HEADING_DEPTH:
                builder.items([" | ".join(_flat(inner, key))])
            else:
                builder.heading(key, depth)
                _add_json(builder, inner, depth + 1)
    else:
        builder.paragraph(_scalar(value))


def _flat(value: Any, name: str) -> Iterator[str]:
    """Leaves as `outer.inner: value`."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else key)
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        for item in value:
            yield from _flat(item, name)
    else:
        text = ", ".join(map(_scalar, value)) if isinstance(value, list) else _scalar(value)
        if text:
            yield f"{name}: {text}" if name else text


def _scalar(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def parse_xml(data: bytes, detected: Detected) -> Parsed:  # noqa: ARG001  (XML names its own encoding)
    """Any XML: titles head what follows, mixed content is a paragraph, records are lines."""
    try:
        root = read_xml(data)
    except XmlError as error:
        raise Unreadable(f"The XML cannot be read: {error.msg}.", type="damaged") from error
    builder = DocumentBuilder()
    _add_xml(builder, root, 1)
    title = next((e for e in root.iter() if local(e) in _HEADINGS), None)
    return builder.build("xml", " ".join(title.itertext()) if title is not None else None)


def _add_xml(builder: DocumentBuilder, element: XmlElement, depth: int) -> None:
    name = local(element)
    if name in _SKIPPED or depth > _MAX_DEPTH:
        return
    if name in _HEADINGS:
        builder.heading(_xml_text(element), max(1, depth - 2))
    elif name in ("table", "tbl"):
        builder.table(_xml_rows(element), header=_has_head(element))
    elif _is_text(element):
        builder.paragraph(_xml_text(element))
    elif len(element) > 1 and all(not len(child) for child in element):
        fields = ((local(child), _xml_text(child)) for child in element)
        builder.items([" | ".join(f"{key}: {text}" for key, text in fields if text)])
    else:
        for child in element:
            _add_xml(builder, child, depth + 1)


def _is_text(element: XmlElement) -> bool:
    """Has text of its own, between or beside its children."""
    own = [element.text, *(child.tail for child in element)]
    return any(part and part.strip() for part in own)


def _xml_text(element: XmlElement) -> str:
    """All characters below, but a formula given both as TeX and as MathML only as TeX."""
    parts = element.xpath(
        ".//text()[not(ancestor::*[local-name()='math'][../*[local-name()='tex-math']])]"
    )
    return " ".join("".join(parts).split())


def _xml_rows(table: XmlElement) -> list[list[str]]:
    return [
        [_xml_text(cell) for cell in row if local(cell) in ("td", "th", "entry", "cell")]
        for row in table.iter()
        if local(row) in ("tr", "row")
    ]


def _has_head(table: XmlElement) -> bool | None:
    return True if any(local(child) == "thead" for child in table.iter()) else None
