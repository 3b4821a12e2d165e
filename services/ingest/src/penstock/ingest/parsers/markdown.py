"""Markdown (CommonMark with tables and front matter) by markdown-it-py."""

import re
from collections.abc import Sequence

from markdown_it import MarkdownIt
from markdown_it.token import Token

from penstock.ingest.detect import Detected
from penstock.ingest.document import DocumentBuilder, Parsed, clean
from penstock.ingest.parsers import decoded
from penstock.ingest.parsers.html import add_html

_FRONT_MATTER = re.compile(r"\A---\n(.*?)\n(?:---|\.\.\.)\n", re.DOTALL)
_TITLE = re.compile(r"^title:\s*[\"']?(.+?)[\"']?\s*$", re.MULTILINE)
_MARKUP = re.compile(r"[*_`\[\]!<&\\]|  \n")
_MARKDOWN = MarkdownIt("commonmark").enable("table")
_MARKDOWN.core.ruler.enableOnly(["normalize", "block"])


def parse_markdown(data: bytes, detected: Detected) -> Parsed:
    builder = DocumentBuilder()
    text = clean(decoded(data, detected))
    title = None
    front = _FRONT_MATTER.match(text)
    if front:
        titled = _TITLE.search(front[1])
        title = titled[1] if titled else None
        builder.paragraph(front[1])
        text = text[front.end() :]
    tokens = _tokens(text)
    _blocks(builder, tokens)
    return builder.build("markdown", title or _first_heading(tokens))


def _tokens(text: str) -> list[Token]:
    """Blocks first; what is inside one is parsed only where there is markup (twice as fast)."""
    env: dict[str, object] = {}
    tokens = _MARKDOWN.parse(text, env)
    for token in tokens:
        if token.type == "inline" and _MARKUP.search(token.content):
            token.children = []
            _MARKDOWN.inline.parse(token.content, _MARKDOWN, env, token.children)
    return tokens


def _first_heading(tokens: Sequence[Token]) -> str | None:
    for index, token in enumerate(tokens):
        if token.type == "heading_open":
            return _inline(tokens[index + 1]) if token.tag == "h1" else None
    return None


def _blocks(builder: DocumentBuilder, tokens: Sequence[Token]) -> None:
    """Lists are kept whole; what a list item holds beside text follows it."""
    items: list[str] = []
    depth = 0
    index = 0
    while index < len(tokens):
        token = tokens[index]
        kind = token.type
        if kind in ("bullet_list_open", "ordered_list_open"):
            depth += 1
        elif kind in ("bullet_list_close", "ordered_list_close"):
            depth -= 1
        elif kind == "inline" and depth and tokens[index - 1].type != "heading_open":
            items.append(_item_mark(tokens, index) + _inline(token))
        elif kind != "inline" or not depth:
            if kind in ("heading_open", "fence", "code_block", "html_block", "table_open"):
                builder.items(items)
                items = []
            index = _block(builder, tokens, index)
        if depth == 0 and items:
            builder.items(items)
            items = []
        index += 1


def _block(builder: DocumentBuilder, tokens: Sequence[Token], index: int) -> int:
    """Add the block at `index`; the index of its last token."""
    token = tokens[index]
    if token.type == "heading_open":
        builder.heading(_inline(tokens[index + 1]), int(token.tag[1]))
        return index + 1
    if token.type == "table_open":
        end = next(i for i in range(index, len(tokens)) if tokens[i].type == "table_close")
        builder.table(_rows(tokens[index:end]), header=True)
        return end
    if token.type in ("fence", "code_block"):
        builder.code(token.content)
    elif token.type == "html_block":
        add_html(builder, token.content)
    elif token.type == "inline":
        builder.paragraph(_inline(token))
    return index


def _item_mark(tokens: Sequence[Token], index: int) -> str:
    """The number of an ordered item, which may carry meaning; nothing for a bullet."""
    if index >= 2 and tokens[index - 2].type == "list_item_open" and tokens[index - 2].info:
        return f"{tokens[index - 2].info}. "
    return ""


def _rows(tokens: Sequence[Token]) -> list[list[str]]:
    rows: list[list[str]] = []
    for token in tokens:
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline":
            rows[-1].append(_inline(token))
    return rows


def _inline(token: Token) -> str:
    """What a reader sees: no emphasis marks, no link targets, the text of images."""
    if not token.children:
        return token.content
    parts = []
    for child in token.children:
        if child.type in ("text", "code_inline", "image"):
            parts.append(child.content)
        elif child.type in ("softbreak", "hardbreak"):
            parts.append("\n")
    return "".join(parts)
