"""Find text that was encoded to slip past a reader, and give back what it says."""

import base64
import binascii
import codecs
import html
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import unquote

MAX_DECODED = 4_000
"""Characters of one decoded run that are looked at."""

_BASE64 = re.compile(r"(?<![\w+/-])[A-Za-z0-9+/_-]{20,8000}={0,2}")
_HEX = re.compile(r"(?<![0-9A-Fa-f])(?:(?:0x|\\x)?[0-9A-Fa-f]{2}[ :,]?){12,4000}")
_ESCAPES = re.compile(r"(?:\\u00[0-9A-Fa-f]{2}){6,1000}")
_PERCENT = re.compile(r"(?=\S{0,200}%[0-9A-Fa-f]{2})[\w%+.,!?'/-]{12,4000}")
_ENTITY = re.compile(r"(?:&#(?:\d{2,7}|x[0-9A-Fa-f]{2,6});?\s?){4,2000}")
_TAGS = re.compile("[\U000e0020-\U000e007e]{4,4000}")
_HEX_NOISE = re.compile(r"0x|\\x|[ :,]")

# Whole texts are only turned round or rotated when a word of an instruction shows in that form.
_ROT13_WORDS = tuple(
    codecs.encode(word, "rot13") for word in ("ignore", "previous", "instructions", "system prompt")
)
_REVERSED_WORDS = tuple(word[::-1] for word in ("ignore", "previous", "instructions", "prompt"))


@dataclass(frozen=True, slots=True)
class Decoded:
    """What the original's `start`..`end` says once decoded."""

    encoding: str
    text: str
    start: int
    end: int


def decoded(text: str) -> Iterator[Decoded]:
    """Every run of `text` that decodes to readable words, one layer deep."""
    for encoding, hint, pattern, decode in _RUNS:
        if hint not in text:
            continue
        for match in pattern.finditer(text):
            plain = decode(match.group())
            if plain is not None and readable(plain):
                yield Decoded(encoding, plain[:MAX_DECODED], match.start(), match.end())
    yield from _whole(text)


def readable(text: str) -> bool:
    """Mostly letters and spaces, as prose is and random bytes are not."""
    if len(text) < 8:
        return False
    good = sum(char.isalpha() or char.isspace() or char in ".,:;!?'\"-" for char in text)
    return good >= 0.85 * len(text) and text.replace("\n", " ").isprintable()


def _whole(text: str) -> Iterator[Decoded]:
    lower = text.lower()
    if sum(word in lower for word in _ROT13_WORDS) >= 2:
        yield Decoded("rot13", codecs.encode(text, "rot13"), 0, len(text))
    if sum(word in lower for word in _REVERSED_WORDS) >= 2:
        yield Decoded("reversed", text[::-1], 0, len(text))


def _utf8(raw: bytes) -> str | None:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None


def _from_base64(run: str) -> str | None:
    body = run.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return _utf8(base64.b64decode(body + "=" * (-len(body) % 4)))
    except (binascii.Error, ValueError):
        return None


def _from_hex(run: str) -> str | None:
    try:
        return _utf8(bytes.fromhex(_HEX_NOISE.sub("", run)))
    except ValueError:
        return None


def _from_escapes(run: str) -> str:
    return "".join(chr(int(code, 16)) for code in run.split("\\u") if code)


def _from_percent(run: str) -> str | None:
    return unquote(run.replace("+", " ")) if run.count("%") >= 4 else None


def _from_tags(run: str) -> str:
    """Tag characters draw nothing and spell ASCII: https://www.unicode.org/charts/PDF/UE0000.pdf"""
    return "".join(chr(ord(char) - 0xE0000) for char in run)


_RUNS: tuple[tuple[str, str, re.Pattern[str], Callable[[str], str | None]], ...] = (
    ("base64", "", _BASE64, _from_base64),
    ("hex", "", _HEX, _from_hex),
    ("escapes", "\\u00", _ESCAPES, _from_escapes),
    ("percent", "%", _PERCENT, _from_percent),
    ("entities", "&#", _ENTITY, html.unescape),
    ("tags", "", _TAGS, _from_tags),
)
