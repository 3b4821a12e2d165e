"""The numbers that Word shows before headings and list items; a DOCX only says how to count.

ECMA-376 part 1, section 17.9.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from penstock.ingest.parsers.xmltree import XmlElement, attribute, local, value_of

_PLACE = re.compile(r"%([1-9])")
_ROMAN = ((1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l"),
          (40, "xl"), (10, "x"), (9, "ix"), (5, "v"), (4, "iv"), (1, "i"))  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Level:
    format: str
    text: str
    """`%1.%2.`: the numbers of the levels above and its own."""
    start: int


class Numbering:
    """Counts as Word does, in the order of the document."""

    def __init__(self, root: XmlElement | None) -> None:
        self._lists: dict[str, str] = {}
        self._levels: dict[str, dict[int, _Level]] = {}
        self._counts: dict[str, dict[int, int]] = defaultdict(dict)
        self._restarts: dict[str, dict[int, int]] = {}
        for element in root if root is not None else ():
            if local(element) == "abstractNum":
                name = attribute(element, "abstractNumId") or ""
                self._levels[name] = dict(map(_level, element.iterfind("./{*}lvl")))
            elif local(element) == "num":
                name = value_of(element, "abstractNumId") or ""
                list_id = attribute(element, "numId") or ""
                self._lists[list_id] = name
                self._restarts[list_id] = dict(_restarts(element))

    def label(self, list_id: str, level: int) -> str:
        """The next number of a level, `2.1`, and count it; nothing for a bullet."""
        name = self._lists.get(list_id, "")
        levels = self._levels.get(name, {})
        own = levels.get(level)
        if own is None or own.format in ("bullet", "none"):
            return ""
        counts = self._counts[name]
        for other, start in self._restarts.pop(list_id, {}).items():
            counts[other] = start - 1  # this list counts on its own from its first item on
        counts[level] = counts.get(level, own.start - 1) + 1
        for deeper in [other for other in counts if other > level]:
            del counts[deeper]

        def number(match: re.Match[str]) -> str:
            at = int(match[1]) - 1
            shape = levels.get(at, own)
            return shown(counts.setdefault(at, shape.start), shape.format)

        return _PLACE.sub(number, own.text).strip()


def numbered(element: XmlElement | None) -> tuple[str, int] | None:
    """List and level that a paragraph's or a style's properties name; list `0` says: none."""
    list_id = value_of(element, "numId") if element is not None else None
    if element is None or list_id is None:
        return None
    level = value_of(element, "ilvl") or "0"
    return list_id, int(level) if level.isdecimal() else 0


def _restarts(element: XmlElement) -> Iterator[tuple[int, int]]:
    for override in element.iterfind("./{*}lvlOverride"):
        start = value_of(override, "startOverride")
        if start is not None and start.isdecimal():
            yield int(attribute(override, "ilvl") or "0"), int(start)


def _level(element: XmlElement) -> tuple[int, _Level]:
    start = value_of(element, "start") or "1"
    level = _Level(
        format=value_of(element, "numFmt") or "decimal",
        text=value_of(element, "lvlText") or "",
        start=int(start) if start.isdecimal() else 1,
    )
    return int(attribute(element, "ilvl") or "0"), level


def shown(number: int, shape: str) -> str:
    """3 as `3`, `c`, `C`, `iii` or `III`."""
    if number > 0 and shape.endswith("Letter"):
        letter = chr(ord("a") + (number - 1) % 26) * ((number - 1) // 26 + 1)
        return letter.upper() if shape.startswith("upper") else letter
    if 0 < number < 4000 and shape.endswith("Roman"):
        roman = ""
        for value, sign in _ROMAN:
            roman += sign * (number // value)
            number %= value
        return roman.upper() if shape.startswith("upper") else roman
    return str(number)
