"""A complete cut of a document, ready to be compared with what is stored. Pure."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np

from penstock.common.events import Chunk, DocumentEmbedded
from penstock.common.failures import PermanentError
from penstock.retrieve.terms import terms
from penstock.retrieve.versions import CutKey

GENERATION = 1
DIM = 384


@dataclass(frozen=True, slots=True)
class CutChunk:
    """A chunk with the id that follows from its content, and its vector as Postgres takes it."""

    chunk_id: UUID
    chunk: Chunk
    halfvec: bytes


@dataclass(frozen=True, slots=True)
class Cut:
    """All chunks of one version of a document, in order. `head` is any of its batches."""

    key: CutKey
    head: DocumentEmbedded
    chunks: Sequence[CutChunk]


def check(batch: DocumentEmbedded) -> None:
    """Refuse what this index cannot hold, by name."""
    if batch.generation != GENERATION:
        raise PermanentError(
            f"generation: {batch.generation} has no vector table; this index holds {GENERATION} only",
            type="unknown_generation",
        )
    if batch.dim != DIM:
        raise PermanentError(f"dim: {batch.dim}; generation {GENERATION} holds vectors of {DIM}")
    if batch.k >= batch.n:
        raise PermanentError(f"k: batch {batch.k} of {batch.n}; k counts from 0")
    expected = len(batch.chunks) * batch.dim * 2
    if len(batch.vectors) != expected:
        raise PermanentError(
            f"vectors: {len(batch.vectors)} bytes; {len(batch.chunks)} chunks of dimension "
            f"{batch.dim} in float16 make {expected}"
        )
    if not np.isfinite(np.frombuffer(batch.vectors, "<f2")).all():
        raise PermanentError("vectors: not every number is finite; embed the document again")


def assemble(key: CutKey, batches: Iterable[DocumentEmbedded]) -> Cut:
    """The cut that its batches make up, all n of them, in any order."""
    ordered = sorted(batches, key=lambda batch: batch.k)
    seen: Counter[bytes] = Counter()
    chunks = []
    for batch in ordered:
        for chunk, halfvec in zip(batch.chunks, halfvecs(batch), strict=True):
            content = _content(key, batch.title, chunk)
            chunks.append(CutChunk(_chunk_id(content, seen[content]), chunk, halfvec))
            seen[content] += 1
    return Cut(key, ordered[0], chunks)


def halfvecs(batch: DocumentEmbedded) -> list[bytes]:
    """Each vector in pgvector's binary form: dimension and zero as int16, then float16, big-endian."""
    rows = np.empty((len(batch.chunks), batch.dim + 2), ">u2")
    rows[:, 0], rows[:, 1] = batch.dim, 0
    rows[:, 2:] = np.frombuffer(batch.vectors, "<u2").reshape(len(batch.chunks), batch.dim)
    packed, width = rows.tobytes(), rows.itemsize * (batch.dim + 2)
    return [packed[at : at + width] for at in range(0, len(packed), width)]


def indexed_terms(title: str | None, chunk: Chunk) -> list[str]:
    """What BM25 finds a chunk by: title and heading path, once, and its text."""
    return terms("\n".join([title or "", *chunk.heading_path, chunk.text]))


def _content(key: CutKey, title: str | None, chunk: Chunk) -> bytes:
    """All that vector and terms were made from: equal content may keep both."""
    made_from = (*key.target, title, chunk.heading_path, chunk.text)
    return hashlib.blake2b(repr(made_from).encode(), digest_size=16).digest()


def _chunk_id(content: bytes, repeat: int) -> UUID:
    """Equal chunks of one document are told apart by counting them."""
    tail = repeat.to_bytes(4, "big")
    return UUID(bytes=hashlib.blake2b(content + tail, digest_size=16).digest())
