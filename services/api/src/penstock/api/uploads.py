"""Multipart bodies as they arrive: each file streams on while the next bytes are still coming."""

from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from penstock.api.errors import Problem

MOST_FIELD_BYTES = 64 * 1024


@dataclass(slots=True)
class Part:
    """One part of the body. `pieces` must be read to its end before the next part is asked for."""

    name: str
    filename: str | None
    pieces: AsyncIterator[bytes]

    async def text(self) -> str:
        """A short field as text."""
        content = b""
        async for piece in self.pieces:
            content += piece
            if len(content) > MOST_FIELD_BYTES:
                raise Problem(
                    "too_large", f"field {self.name!r} has more than {MOST_FIELD_BYTES} bytes"
                )
        try:
            return content.decode()
        except UnicodeDecodeError as error:
            raise Problem("invalid", f"field {self.name!r} is not UTF-8") from error


@dataclass(slots=True)
class _Begun:
    headers: dict[str, bytes]


class _Ended:
    pass


@dataclass(slots=True)
class _Collector:
    """What the parser has seen: beginnings, pieces and ends of parts, in order."""

    seen: deque[_Begun | bytes | _Ended] = field(default_factory=deque)
    name: bytes = b""
    value: bytes = b""
    headers: dict[str, bytes] = field(default_factory=dict)
    whole: bool = False

    def ends(self) -> None:
        self.whole = True

    def callbacks(self) -> dict[str, object]:
        return {
            "on_part_begin": self.part_begins,
            "on_header_field": self.header_name,
            "on_header_value": self.header_value,
            "on_header_end": self.header_ends,
            "on_headers_finished": lambda: self.seen.append(_Begun(self.headers)),
            "on_part_data": lambda data, start, end: self.seen.append(data[start:end]),
            "on_part_end": lambda: self.seen.append(_Ended()),
            "on_end": self.ends,
        }

    def part_begins(self) -> None:
        self.headers = {}

    def header_name(self, data: bytes, start: int, end: int) -> None:
        self.name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self.value += data[start:end]

    def header_ends(self) -> None:
        self.headers[self.name.decode("latin-1").lower()] = self.value
        self.name = self.value = b""


class _Reader:
    def __init__(self, parser: MultipartParser, seen: _Collector, body: AsyncIterator[bytes]):
        self._parser = parser
        self._seen = seen
        self._body = body

    async def next(self) -> _Begun | bytes | _Ended | None:
        """The next thing seen; None at the end of the body."""
        while not self._seen.seen:
            piece = await anext(self._body, None)
            if piece is None and self._seen.whole:
                return None
            if piece is None:
                raise Problem("invalid", "the multipart body ends in the middle of a part")
            try:
                self._parser.write(piece)
            except FormParserError as error:
                raise Problem("invalid", f"the multipart body is malformed: {error}") from error
        return self._seen.seen.popleft()

    async def pieces(self) -> AsyncIterator[bytes]:
        """The bytes of the part that has begun."""
        while True:
            seen = await self.next()
            if isinstance(seen, _Ended):
                return
            assert isinstance(seen, bytes)
            yield seen


async def parts(content_type: str, body: AsyncIterator[bytes]) -> AsyncIterator[Part]:
    """
    The parts of a multipart/form-data body, one after the other.

    Raises:
        Problem: the body is not what its type says.
    """
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise Problem("invalid", "the Content-Type multipart/form-data names no boundary")
    collector = _Collector()
    try:
        parser = MultipartParser(boundary, collector.callbacks())  # type: ignore[arg-type]
    except FormParserError as error:
        raise Problem("invalid", f"the multipart boundary is malformed: {error}") from error
    reader = _Reader(parser, collector, body)
    while (seen := await reader.next()) is not None:
        if not isinstance(seen, _Begun):
            raise Problem("invalid", "the multipart body has bytes outside its parts")
        disposition, named = parse_options_header(
            seen.headers.get("content-disposition", b"").decode("latin-1")
        )
        name = named.get(b"name")
        if disposition != b"form-data" or name is None:
            raise Problem("invalid", "a part of the body has no name")
        filename = named.get(b"filename")
        pieces = reader.pieces()
        yield Part(_text(name), _text(filename) if filename else None, pieces)
        async for _ in pieces:  # what the taker left
            continue


def _text(value: bytes) -> str:
    try:
        return value.decode("latin-1").encode("latin-1").decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
