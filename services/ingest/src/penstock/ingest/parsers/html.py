"""HTML by selectolax's Lexbor: what a browser would show, in order."""

from collections.abc import Iterator

from selectolax.lexbor import LexborHTMLParser, LexborNode

from penstock.ingest.detect import Detected
from penstock.ingest.document import DocumentBuilder, Parsed
from penstock.ingest.parsers import decoded

_SKIPPED = frozenset(
    ("script", "style", "noscript", "template", "head", "svg", "iframe", "object", "nav", "button",
     "select")
)  # fmt: skip
_BLOCKS = frozenset(
    ("address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details",
     "dialog", "div", "dl", "dt", "fieldset", "figcaption", "figure", "footer", "form", "header",
     "hgroup", "hr", "html", "li", "main", "ol", "p", "pre", "search", "section", "summary",
     "table", "tbody", "td", "tfoot", "th", "thead", "tr", "ul")
)  # fmt: skip
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_MAX_SPAN = 50


def parse_html(data: bytes, detected: Detected) -> Parsed:
    builder = DocumentBuilder()
    title = add_html(builder, decoded(data, detected))
    return builder.build("html", title)


def add_html(builder: DocumentBuilder, text: str) -> str | None:
    """Add a page (or a fragment) to a document; its title, if it names one."""
    tree = LexborHTMLParser(text)
    if tree.body is not None:
        _flow(builder, tree.body)
    title = tree.css_first("title") or tree.css_first("h1")
    return _text(title).strip() if title is not None else None


def _flow(builder: DocumentBuilder, node: LexborNode) -> None:
    """Runs of inline content become paragraphs, blocks become elements of their own."""
    inline: list[str] = []

    def flush() -> None:
        builder.paragraph(" ".join("".join(inline).split(" ")))
        inline.clear()

    for child in _children(node):
        tag = child.tag
        if tag == "-text":
            inline.append(_collapsed(child))
        elif tag == "br":
            inline.append("\n")
        elif _is_block(child):
            flush()
            _block(builder, child)
        else:
            inline.append(_text(child))
    flush()


def _is_block(node: LexborNode) -> bool:
    """By its tag, or an inline one (a link, a span) that wraps a heading, table or list."""
    return (
        node.tag in _BLOCKS
        or node.tag in _HEADINGS
        or node.css_first("h1,h2,h3,h4,h5,h6,table,ul,ol,pre,p,div") is not None
    )


def _block(builder: DocumentBuilder, node: LexborNode) -> None:
    tag = node.tag or ""
    if tag in _HEADINGS:
        builder.heading(_text(node), _HEADINGS[tag])
    elif tag in ("ul", "ol"):
        _list(builder, node)
    elif tag == "table":
        _table(builder, node)
    elif tag == "pre":
        builder.code(node.text(deep=True))
    else:
        _flow(builder, node)


def _list(builder: DocumentBuilder, node: LexborNode) -> None:
    """Items of nested lists follow their parent; other blocks inside an item follow the list."""
    items: list[str] = []
    rest: list[LexborNode] = []
    _items(node, items, rest)
    builder.items(items)
    for block in rest:
        _block(builder, block)


def _items(node: LexborNode, items: list[str], rest: list[LexborNode]) -> None:
    for child in _children(node):
        if child.tag in ("ul", "ol"):
            _items(child, items, rest)
            continue
        own: list[str] = []
        for part in _children(child) if child.tag == "li" else (child,):
            if part.tag in ("ul", "ol"):
                items.append("".join(own))
                own = []
                _items(part, items, rest)
            elif part.tag in ("table", "pre"):
                rest.append(part)
            else:
                own.append(_text(part))
        items.append("".join(own))


def _table(builder: DocumentBuilder, table: LexborNode) -> None:
    caption = table.css_first("caption")
    if caption is not None:
        builder.paragraph(_text(caption))
    rows: list[list[str]] = []
    spanning: dict[int, tuple[int, str]] = {}
    has_header: bool | None = None
    for row in _rows(table):
        cells = [cell for cell in _children(row) if cell.tag in ("td", "th")]
        if not cells:
            continue
        if not rows and all(cell.tag == "th" for cell in cells) and len(cells) > 1:
            has_header = True
        rows.append(_cells(cells, spanning))
    builder.table(rows, header=has_header)


def _rows(table: LexborNode) -> Iterator[LexborNode]:
    """The rows of this table, not of one nested in it."""
    for child in _children(table):
        if child.tag == "tr":
            yield child
        elif child.tag in ("thead", "tbody", "tfoot"):
            yield from (row for row in _children(child) if row.tag == "tr")


def _cells(cells: list[LexborNode], spanning: dict[int, tuple[int, str]]) -> list[str]:
    """A row's cells by column. `spanning` holds cells from above: column to (rows left, text)."""
    texts: list[str] = []
    pending = iter(cells)
    cell = next(pending, None)
    while cell is not None or len(texts) in spanning:
        column = len(texts)
        if column in spanning:
            left, text = spanning.pop(column)
            if left > 1:
                spanning[column] = (left - 1, text)
            texts.append(text)
            continue
        if cell is None:
            break
        text = _text(cell)
        below = _span(cell, "rowspan") - 1
        if below:
            spanning[column] = (below, text)
        texts.extend([text] + [""] * (_span(cell, "colspan") - 1))
        cell = next(pending, None)
    return texts


def _span(cell: LexborNode, name: str) -> int:
    value = cell.attributes.get(name) or ""
    return max(1, min(int(value), _MAX_SPAN)) if value.isdecimal() else 1


def _text(node: LexborNode) -> str:
    """Visible text of a node, spaces collapsed as a browser does, breaks as new lines."""
    if node.tag == "-text":
        return _collapsed(node)
    if node.tag == "br":
        return "\n"
    if node.tag in _SKIPPED or (node.tag or "-").startswith(("-", "!")):
        return ""
    if node.tag == "img":
        return node.attributes.get("alt") or ""
    inside = "".join(_text(child) for child in _children(node))
    return f"\n{inside}\n" if node.tag in _BLOCKS else inside


def _collapsed(node: LexborNode) -> str:
    text = node.text_content or ""
    return f"{' ' if text[:1].isspace() else ''}{' '.join(text.split())}{' ' if text[-1:].isspace() and text.strip() else ''}"


def _children(node: LexborNode) -> Iterator[LexborNode]:
    for child in node.iter(include_text=True):
        if child.tag not in _SKIPPED:
            yield child
