"""Exact BM25 over posting blocks, in numpy.

Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009, with the
idf of Lucene's `BM25Similarity`, which is never negative. Posting blocks are what the indexer
writes: packed arrays of one term in one segment (`performance.md` of the design, 2c).
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

K1 = 1.2
"""How soon repeating a term stops to count."""

B = 0.75
"""How much a long chunk is held against it, 0 to 1."""

FIRST_PAGE = 128
PAGE_GROWTH = 8

Ids = NDArray[np.int64]
Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Block:
    """One term's postings in one segment; the three arrays run in parallel.

    `chunks`: little-endian int32, offsets from `base`; `tfs`: uint8; `lengths`: little-endian
    uint16, terms in the chunk.
    """

    term: str
    base: int
    chunks: bytes
    tfs: bytes
    lengths: bytes


@dataclass(frozen=True, slots=True)
class Corpus:
    """What BM25 needs to know about all chunks together."""

    chunks: int
    mean_length: float
    """In terms."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """Every chunk that holds a term of the query, in no order; `pages` has it best first."""

    ids: Ids
    scores: Scores

    def pages(self, first: int = FIRST_PAGE) -> Iterator[Ids]:
        """Ids from the best to the worst, equal scores by id, in pages that grow.

        Nearly every query ends within the first page, so only that one is cheap: the rest is
        sorted when somebody asks for it.
        """
        best, rest = self._split(first)
        yield self._ordered(best)
        ordered = self._ordered(rest)
        start, size = 0, first * PAGE_GROWTH
        while start < len(ordered):
            yield ordered[start : start + size]
            start, size = start + size, size * PAGE_GROWTH

    def _split(self, first: int) -> tuple[Ids, Ids]:
        """Where the best `first` lie, those as good as the last of them included, and the rest."""
        if len(self.ids) <= first:
            return np.arange(len(self.ids)), np.empty(0, np.int64)
        last_best = np.partition(self.scores, -first)[-first]
        good = self.scores >= last_best
        return np.flatnonzero(good), np.flatnonzero(~good)

    def _ordered(self, where: Ids) -> Ids:
        ids = self.ids[where]
        return ids[np.lexsort((ids, -self.scores[where]))]


def idf(holding: int, chunks: int) -> float:
    """Weight of a term that `holding` of `chunks` chunks hold; dead postings count until merged."""
    return math.log1p(max(chunks - holding, 0) / (holding + 0.5) + 0.5 / (holding + 0.5))


def rank(
    blocks: Sequence[Block], query: Iterable[str], corpus: Corpus, *, k1: float = K1, b: float = B
) -> Ranking:
    """Score every chunk in `blocks`. A term that the query repeats counts as often."""
    if not blocks:
        return Ranking(np.empty(0, np.int64), np.empty(0))
    repeats = Counter(query)
    counts = np.array([len(block.tfs) for block in blocks])
    holding: Counter[str] = Counter()
    for block, count in zip(blocks, counts.tolist(), strict=True):
        holding[block.term] += count
    weight = {t: repeats[t] * idf(n, corpus.chunks) for t, n in holding.items()}

    offsets = np.frombuffer(b"".join([block.chunks for block in blocks]), "<i4")
    ids = np.repeat([block.base for block in blocks], counts) + offsets
    tf = np.frombuffer(b"".join([block.tfs for block in blocks]), np.uint8).astype(np.float64)
    length = np.frombuffer(b"".join([block.lengths for block in blocks]), "<u2")
    saturation = k1 * (1 - b + b / max(corpus.mean_length, 1.0) * length)
    impact = np.repeat([weight[block.term] for block in blocks], counts) * tf / (tf + saturation)
    return _summed(ids, impact)


def _summed(ids: Ids, impact: Scores) -> Ranking:
    """Add up by chunk: over an array as wide as the ids where they lie close, else by sorting."""
    lowest = int(ids.min())
    width = int(ids.max()) - lowest + 1
    if width <= 16 * len(ids) + 65_536:
        total = np.bincount(ids - lowest, impact, width).astype(np.float64, copy=False)
        hit = np.flatnonzero(total)
        return Ranking(hit + lowest, total[hit])
    unique, inverse = np.unique(ids, return_inverse=True)
    summed = np.bincount(inverse, impact).astype(np.float64, copy=False)
    return Ranking(unique, summed)


def postings(blocks: Sequence[Block]) -> int:
    return sum(len(block.tfs) for block in blocks)
