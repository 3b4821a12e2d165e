"""A document's text again, from its chunks at their spans."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from penstock.common.db import Reads

_COLLECTION = (
    "SELECT collection FROM document WHERE tenant = $1 AND id = $2 AND state = 'searchable'"
)

_PIECES = """
    SELECT version, span_start, text FROM chunk
    WHERE tenant = $1 AND document = $2 AND generation = $3
      AND (access IS NULL OR access && $4::text[])
"""


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk's text and where it starts, in characters."""

    start: int
    text: str


def rebuilt(pieces: Iterable[Piece]) -> str:
    """The text such that every piece stands at its start, so that citations open at their spans.

    What lies between chunks was white space or furniture and comes back as newlines; where chunks
    overlap, they agree.
    """
    parts: list[str] = []
    length = 0
    for piece in sorted(pieces, key=lambda piece: (piece.start, -len(piece.text))):
        if piece.start > length:
            parts.append("\n" * (piece.start - length))
            length = piece.start
        fresh = piece.text[length - piece.start :]
        parts.append(fresh)
        length += len(fresh)
    return "".join(parts)


async def collection_of(reads: Reads, tenant: str, document: str) -> str | None:
    """The collection of a searchable document; None: there is no such document."""
    async with reads.of(tenant) as connection:
        found: str | None = await connection.fetchval(_COLLECTION, tenant, document)
        return found


async def document_text(
    reads: Reads, tenant: str, document: str, generation: int, groups: Sequence[str]
) -> tuple[int, str] | None:
    """The version and text that `groups` may read; None: nothing.

    One statement, so that no text is put together from two versions.
    """
    async with reads.of(tenant) as connection:
        rows = await connection.fetch(_PIECES, tenant, document, generation, list(groups))
    if not rows:
        return None
    return rows[0]["version"], rebuilt(Piece(row["span_start"], row["text"]) for row in rows)
