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
