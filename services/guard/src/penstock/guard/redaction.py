"""Take words out of a text without moving what follows, so that spans stay true."""

from collections.abc import Iterable

BLOCK = "█"
SHORT = "■"


def mask(length: int, label: str) -> str:
    """`[EMAIL███]`, exactly `length` characters; plain blocks where the label has no room."""
    room = length - len(label) - 2
    return f"[{label}{BLOCK * room}]" if room >= 0 else SHORT * length


def redact(text: str, ranges: Iterable[tuple[int, int, str]]) -> str:
    """`text` with every (start, end, label) masked; overlapping ranges become one."""
    merged: list[tuple[int, int, str]] = []
    for start, end, label in sorted(ranges):
        if merged and start < merged[-1][1]:
            before = merged[-1]
            merged[-1] = (before[0], max(before[1], end), before[2])
        elif start < end:
            merged.append((start, end, label))
    parts = []
    position = 0
    for start, end, label in merged:
        parts += [text[position:start], mask(end - start, label)]
        position = end
    return "".join([*parts, text[position:]])
