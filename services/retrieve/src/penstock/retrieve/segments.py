"""Segments of posting blocks, in numpy: built from new chunks, merged in tiers, planned.

The shape is Lucene's: a segment never changes, a merge writes a new one in place of several and
leaves the dead out. Everything here is pure; the SQL is in `writing` and `merging`.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]

FAN_IN = 8
"""So many segments of one size make one of the next."""

DEAD_SHARE = 0.3
"""A segment with this share of dead chunks is rewritten without them."""

MAX_CHUNKS = 500_000
"""A merge writes no larger segment: its postings are held in memory (about 230 bytes a chunk)."""

MAX_SPAN = 2**31 - 1
"""Offsets from a segment's base are int32."""

MAX_TF = 255
MAX_LENGTH = 65_535


@dataclass(frozen=True, slots=True)
class Postings:
    """One row of `posting_block`: three parallel arrays, packed little-endian."""

    term: str
    chunks: bytes
    tfs: bytes
    lengths: bytes


@dataclass(frozen=True, slots=True)
class Built:
    """A segment to be written. `members`: int32 offsets from `base`, ascending."""

    base: int
    chunks: int
    total_length: int
    members: bytes
    postings: Sequence[Postings]


@dataclass(frozen=True, slots=True)
class Segment:
    """What a plan needs to know of a segment."""

    id: int
    base: int
    chunks: int
    total_length: int
    members: Ids
    """Chunk numbers, ascending."""


@dataclass(frozen=True, slots=True)
class StoredPostings:
    """A row of `posting_block` as read for a merge."""

    segment: int
    postings: Postings


def members_of(base: int, packed: bytes) -> Ids:
    return np.frombuffer(packed, "<i4").astype(np.int64) + base


def build(ids: Sequence[int], terms: Sequence[Sequence[str]]) -> Built:
    """A segment of new chunks: their numbers, ascending, and the terms of each."""
    numbers = np.asarray(ids, np.int64)
    vocabulary: dict[str, int] = {}
    flat = [vocabulary.setdefault(term, len(vocabulary)) for found in terms for term in found]
    counts = np.fromiter(map(len, terms), np.int64, len(terms))
    owner = np.repeat(np.arange(len(terms)), counts)
    keys, tfs = np.unique(np.asarray(flat, np.int64) * len(terms) + owner, return_counts=True)
    term, chunk = keys // max(len(terms), 1), keys % max(len(terms), 1)
    base = int(numbers[0])
    return Built(
        base=base,
        chunks=len(ids),
        total_length=int(counts.sum()),
        members=_packed_offsets(numbers, base),
        postings=_cut(
            list(vocabulary),
            np.searchsorted(term, np.arange(len(vocabulary) + 1)),
            numbers[chunk] - base,
            np.minimum(tfs, MAX_TF),
            np.minimum(counts[chunk], MAX_LENGTH),
        ),
    )


def merge(segments: Sequence[Segment], stored: Iterable[StoredPostings], dead: Ids) -> Built | None:
    """
    One segment in place of several; None when nobody in them is alive.

    Args:
        segments: of one tenant and generation, with all their postings in `stored`.
        dead: numbers of chunks to leave out; others than the members' do no harm.
    """
    members = np.sort(np.concatenate([segment.members for segment in segments]))
    alive = members[~np.isin(members, dead)]
    if not len(alive):
        return None
    base = int(alive[0])
    rows = sorted(stored, key=lambda row: row.postings.term)
    bases = {segment.id: segment.base for segment in segments}
    sizes = np.array([len(row.postings.tfs) for row in rows], np.int64)
    names = [name for name, _ in groupby(row.postings.term for row in rows)]
    rank = {name: i for i, name in enumerate(names)}
    term = np.repeat(np.array([rank[row.postings.term] for row in rows], np.int64), sizes)
    number = _joined(rows, "chunks", "<i4").astype(np.int64)
    number += np.repeat(np.array([bases[row.segment] for row in rows], np.int64), sizes)
    keep = np.flatnonzero(~np.isin(number, dead))
    keep = keep[np.lexsort((number[keep], term[keep]))]
    lengths = _joined(rows, "lengths", "<u2")
    total = sum(segment.total_length for segment in segments)
    return Built(
        base=base,
        chunks=len(alive),
        total_length=total - _length_of_dead(number, lengths, keep),
        members=_packed_offsets(alive, base),
        postings=_cut(
            names,
            np.searchsorted(term[keep], np.arange(len(names) + 1)),
            number[keep] - base,
            _joined(rows, "tfs", "u1")[keep],
            lengths[keep],
        ),
    )


def _length_of_dead(number: Ids, lengths: NDArray[np.integer], keep: NDArray[np.int64]) -> int:
    """Terms of the chunks whose postings are left out, each chunk once."""
    left_out = np.ones(len(number), bool)
    left_out[keep] = False
    _, first = np.unique(number[left_out], return_index=True)
    return int(lengths[left_out][first].sum(dtype=np.int64))


def _joined(rows: Sequence[StoredPostings], field: str, dtype: str) -> NDArray[np.integer]:
    return np.frombuffer(b"".join([getattr(row.postings, field) for row in rows]), dtype)


def _packed_offsets(numbers: Ids, base: int) -> bytes:
    return (numbers - base).astype("<i4").tobytes()


def _cut(
    names: Sequence[str],
    starts: NDArray[np.int64],
    offsets: NDArray[np.int64],
    tfs: NDArray[np.integer],
    lengths: NDArray[np.integer],
) -> list[Postings]:
    """Postings that lie term after term, as one row a term; terms without any are left out."""
    chunks, ones, twos = (
        offsets.astype("<i4").tobytes(),
        tfs.astype("u1").tobytes(),
        lengths.astype("<u2").tobytes(),
    )
    bounds = starts.tolist()
    found = [
        Postings(name, chunks[4 * a : 4 * b], ones[a:b], twos[2 * a : 2 * b])
        for name, a, b in zip(names, bounds, bounds[1:], strict=False)
        if b > a
    ]
    return sorted(found, key=lambda postings: postings.term)


def plan(segments: Sequence[Segment], dead: Ids, owed: Ids) -> list[Segment] | None:
    """
    The segments to merge next, None when all is well.

    First those that hold a chunk whose removal is still owed (`owed`, part of `dead`), then those
    with too many dead, then a tier that is full.
    """
    holding = [s for s in segments if np.isin(s.members, owed).any()] if len(owed) else []
    if holding:
        return _bounded(holding)
    dying = [s for s in segments if len(dead) and _dead_share(s, dead) >= DEAD_SHARE]
    if dying:
        return _bounded(dying)
    for full in _tiers(segments):
        group = _bounded(full)
        if len(group) > 1:
            return group
    return None


def _dead_share(segment: Segment, dead: Ids) -> float:
    return float(np.isin(segment.members, dead).mean())


def _tiers(segments: Sequence[Segment]) -> Iterable[list[Segment]]:
    tiers: dict[int, list[Segment]] = {}
    for segment in segments:
        if segment.chunks <= MAX_CHUNKS // 2:
            tiers.setdefault(int(math.log(segment.chunks, FAN_IN)), []).append(segment)
    return [tiers[tier] for tier in sorted(tiers) if len(tiers[tier]) >= FAN_IN]


def _bounded(segments: Sequence[Segment]) -> list[Segment]:
    """As many of them, by base, as fit into one; never none."""
    ordered = sorted(segments, key=lambda s: s.base)
    group, chunks = ordered[:1], ordered[0].chunks
    for segment in ordered[1:]:
        chunks += segment.chunks
        if chunks > MAX_CHUNKS or int(segment.members[-1]) - ordered[0].base > MAX_SPAN:
            break
        group.append(segment)
    return group
