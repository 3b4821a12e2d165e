"""How texts of different lengths become batches with little padding. Pure functions."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]


def pack(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Split texts, longest first, into batches of at most `budget` tokens, padding included.

    Returns indices into `lengths`, each exactly once. A text longer than the budget is a batch of
    its own.
    """
    longest_first = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    batches: list[list[int]] = []
    at = 0
    while at < len(longest_first):
        rows = max(1, budget // max(1, lengths[longest_first[at]]))
        batches.append(longest_first[at : at + rows])
        at += rows
    return batches


def shared_budget(lengths: Sequence[int], budget: int, workers: int) -> int:
    """The budget that gives every worker something to do, where there is little to do."""
    return max(1, min(budget, -(-sum(lengths) // workers)))


def pack_buckets(
    lengths: Sequence[int], buckets: Sequence[int], *, rows: int, tokens: int
) -> list[tuple[int, list[int]]]:
    """Group texts by the smallest bucket that holds them.

    A batch has at most `rows` texts and, padded to its bucket, at most `tokens` tokens (one text
    is always a batch). Returns (bucket, indices); `buckets` ascend and the last holds every text.
    """
    groups: dict[int, list[int]] = {}
    for index, length in enumerate(lengths):
        bucket = next(size for size in buckets if length <= size)
        groups.setdefault(bucket, []).append(index)
    batches: list[tuple[int, list[int]]] = []
    for bucket, indices in sorted(groups.items()):
        step = max(1, min(rows, tokens // bucket))
        batches += [(bucket, indices[at : at + step]) for at in range(0, len(indices), step)]
    return batches


def padded(rows: Sequence[Sequence[int]], width: int) -> tuple[Ids, Ids]:
    """Token ids and attention mask, both int64 of shape (rows, width), padded with 0."""
    ids = np.zeros((len(rows), width), dtype=np.int64)
    mask = np.zeros_like(ids)
    for at, row in enumerate(rows):
        ids[at, : len(row)] = row
        mask[at, : len(row)] = 1
    return ids, mask


def restore(
    parts: Iterable[tuple[Sequence[int], NDArray[np.float32]]], count: int, dim: int
) -> NDArray[np.float32]:
    """Put batches of vectors back into the order of their texts: shape (count, dim)."""
    vectors = np.empty((count, dim), dtype=np.float32)
    for indices, part in parts:
        vectors[list(indices)] = part
    return vectors
