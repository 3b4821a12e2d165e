"""XML for the parsers: read safely, names without their namespaces."""

from typing import Any

from lxml import etree  # type: ignore[import-untyped]

XmlElement = Any
"""An lxml element; lxml ships no types."""

XmlError: type[SyntaxError] = etree.XMLSyntaxError


def read_xml(data: bytes) -> XmlElement:
    """Parse without entities, network or DTD: a document may not make us fetch or expand."""
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False,
        remove_comments=True, remove_pis=True,
    )  # fmt: skip
    return etree.fromstring(data, parser)


def local(element: XmlElement) -> str:
    """The element's name without its namespace (strict and transitional Office differ in it)."""
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def attribute(element: XmlElement, name: str) -> str | None:
    """An attribute by its local name."""
    return next(
        (str(value) for key, value in element.attrib.items() if str(key).endswith(name)), None
    )


def value_of(element: XmlElement, name: str) -> str | None:
    """The `val` of the first descendant called `name` (how Word's XML says most things)."""
    found = element.find(f".//{{*}}{name}")
    return attribute(found, "val") if found is not None else None
