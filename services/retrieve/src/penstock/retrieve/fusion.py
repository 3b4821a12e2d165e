"""Reciprocal rank fusion of several rankings into one.

Cormack, Clarke and Büttcher, SIGIR 2009. Only ranks count, so legs whose scores cannot be
compared (cosine, BM25) need no calibration.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Leg = Literal["dense", "lexical"]

K = 10
"""Damps the lead of the first ranks. The paper's 60 lets a chunk that both legs rank poorly pass
the best one of either: measured worse on six of seven query sets (docs/benchmarks/retrieval.md)."""

WEIGHT: dict[Leg, float] = {"dense": 1.5, "lexical": 1.0}
"""The better leg counts more: measured better, or equal, on the same sets."""


_UNRANKED = sys.maxsize


@dataclass(slots=True)
class Candidate:
    """A chunk with its fused score; ranks count from 1, None where a leg missed it."""

    chunk: int
    score: float = 0.0
    dense_rank: int | None = None
    lexical_rank: int | None = None

    @property
    def best_rank(self) -> int:
        return min(self.dense_rank or _UNRANKED, self.lexical_rank or _UNRANKED)


def fuse(rankings: Sequence[tuple[Leg, Sequence[int]]]) -> list[Candidate]:
    """All chunks of all rankings, best first.

    A leg may come several times (one ranking for each search text); a chunk keeps its best rank
    of each leg. Equal scores: the better rank first, then the lower id, so results are stable.
    """
    found: dict[int, Candidate] = {}
    for leg, chunks in rankings:
        for rank, chunk in enumerate(chunks, start=1):
            if (candidate := found.get(chunk)) is None:
                candidate = found[chunk] = Candidate(chunk)
            candidate.score += WEIGHT[leg] / (K + rank)
            if leg == "dense":
                candidate.dense_rank = min(rank, candidate.dense_rank or rank)
            else:
                candidate.lexical_rank = min(rank, candidate.lexical_rank or rank)
    return sorted(found.values(), key=lambda c: (-c.score, c.best_rank, c.chunk))
