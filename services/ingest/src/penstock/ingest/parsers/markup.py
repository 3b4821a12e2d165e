"""Light markups read line by line: WebVTT, LaTeX, AsciiDoc."""

import re
from collections.abc import Callable, Iterator

from penstock.ingest.detect import Detected
from penstock.ingest.document import DocumentBuilder, Parsed, clean
from penstock.ingest.parsers import decoded

_TIMING = re.compile(r"^[\d:.]+\s+-->\s+[\d:.]+")
_VOICE = re.compile(r"<v(?:\.[^\s>]*)?\s+([^>]+)>")
_TAG = re.compile(r"</?[^>]*>")

_TEX_COMMENT = re.compile(r"(?<!\\)%.*")
_TEX_SECTION = re.compile(r"\\(title|part|chapter|section|subsection|subsubsection|paragraph)\*?\{")
_TEX_LEVELS = ("title", "part", "chapter", "section", "subsection", "subsubsection", "paragraph")
_TEX_DROPPED = re.compile(
    r"\\(?:documentclass|usepackage|label|ref|cite\w*|includegraphics|bibliography\w*|input|"
    r"begin|end|vspace|hspace|setlength|newcommand|renewcommand|pagestyle)\*?"
    r"(?:\[[^\]]*\])*(?:\{[^{}]*\})*"
)
_TEX_COMMAND = re.compile(r"\\[A-Za-z]+\*?(?:\[[^\]]*\])?")
_TEX_SYMBOL = re.compile(r"\\([%&$#_{}])")

_ADOC_HEADING = re.compile(r"^(={1,6}) +(.+)$")
_ADOC_ITEM = re.compile(r"^\s*(?:[*.-]+|\d+\.) +(.+)$")
_ADOC_DROPPED = re.compile(r"^(?::[\w-]+:.*|\[[^\]]*\]|//.*|'''|\+|=+|image::?.*)$")
_ADOC_FENCE = re.compile(r"^(?:-{4,}|\.{4,}|`{3,}.*)$")


def parse_webvtt(data: bytes, detected: Detected) -> Parsed:
    """Each cue a paragraph, led by who speaks; times and cue names left out."""
    builder = DocumentBuilder()
    for block in re.split(r"\n{2,}", clean(decoded(data, detected))):
        lines = block.split("\n")
        timing = next((i for i, line in enumerate(lines) if _TIMING.match(line)), None)
        if timing is not None:
            spoken = _VOICE.sub(r"\1: ", "\n".join(lines[timing + 1 :]))
            builder.paragraph(_TAG.sub("", spoken))
    return builder.build("webvtt")


def parse_latex(data: bytes, detected: Detected) -> Parsed:
    """Sections as headings, commands dropped, their text kept; formulas stay as written."""
    text = _TEX_COMMENT.sub("", clean(decoded(data, detected)))
    builder = DocumentBuilder()
    title = None
    at = 0
    for match in _TEX_SECTION.finditer(text):
        if match.start() < at:
            continue
        end = _closing(text, match.end())
        heading = _plain_tex(text[match.end() : end])
        builder.paragraph(_plain_tex(text[at : match.start()]))
        builder.heading(heading, _TEX_LEVELS.index(match[1]) + 1)
        title = heading if match[1] == "title" else title
        at = end + 1
    builder.paragraph(_plain_tex(text[at:]))
    return builder.build("latex", title)


def _closing(text: str, start: int) -> int:
    """Index of the brace that closes the one just before `start`."""
    depth = 1
    for index in range(start, min(len(text), start + 2000)):
        depth += {"{": 1, "}": -1}.get(text[index], 0)
        if depth == 0:
            return index
    return min(len(text), start)


def _plain_tex(text: str) -> str:
    text = _TEX_DROPPED.sub(" ", text).replace("\\\\", "\n").replace("\\item", "\n- ")
    text = _TEX_COMMAND.sub(" ", _TEX_SYMBOL.sub(r"\1", text))
    return re.sub(r"(?<!\$)[{}~]", " ", text)


def parse_asciidoc(data: bytes, detected: Detected) -> Parsed:
    """Headings, lists, tables and listings; attributes and comments left out."""
    builder = DocumentBuilder()
    title = None
    paragraph: list[str] = []
    items: list[str] = []

    def flush() -> None:
        builder.items(items)
        builder.paragraph("\n".join(paragraph))
        items.clear()
        paragraph.clear()

    lines = iter(clean(decoded(data, detected)).split("\n"))
    for line in lines:
        heading, item = _ADOC_HEADING.match(line), _ADOC_ITEM.match(line)
        if heading:
            flush()
            builder.heading(heading[2], len(heading[1]))
            title = title or heading[2]
        elif line.startswith("|==="):
            flush()
            builder.table(_adoc_rows(_until(lines, _ends_table)))
        elif _ADOC_FENCE.match(line):
            flush()
            builder.code("\n".join(_until(lines, line.rstrip()[:4].__eq__)))
        elif item:
            items.append(item[1])
        elif not line.strip() or _ADOC_DROPPED.match(line):
            flush()
        else:
            paragraph.append(line.removeprefix("."))
    flush()
    return builder.build("asciidoc", title)


def _until(lines: Iterator[str], ends: Callable[[str], bool]) -> list[str]:
    inside = []
    for line in lines:
        if ends(line.rstrip()):
            break
        inside.append(line)
    return inside


def _adoc_rows(lines: list[str]) -> list[list[str]]:
    """Rows of `|a |b` on one line, or a cell a line with blank lines between rows."""
    rows: list[list[str]] = []
    fresh = True
    for line in lines:
        if not line.strip():
            fresh = True
            continue
        cells = [cell.strip() for cell in line.lstrip().removeprefix("|").split("|")]
        if len(cells) > 1 or fresh or not rows:
            rows.append(cells)
        else:
            rows[-1].extend(cells)
        fresh = False
    return rows


def _ends_table(line: str) -> bool:
    return line.startswith("|===")
