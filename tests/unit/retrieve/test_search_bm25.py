"""BM25 over posting blocks gives what the formula gives, whatever segments they lie in."""

import math
from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.retrieve import segments
from penstock.retrieve.bm25 import Block, Corpus, Ranking, idf, rank

Texts = list[list[str]]

TEXTS = st.lists(
    st.lists(st.sampled_from("abcde"), min_size=1, max_size=8), min_size=1, max_size=30
)


def blocks(texts: Texts, query: list[str], *, first: int = 100, segment: int = 1000) -> list[Block]:
    """The blocks of the query's terms, in segments of so many chunks."""
    found = []
    for start in range(0, len(texts), segment):
        some = texts[start : start + segment]
        built = segments.build(range(first + start, first + start + len(some)), some)
        found += [
            Block(p.term, built.base, p.chunks, p.tfs, p.lengths)
            for p in built.postings
            if p.term in query
        ]
    return found


def corpus(texts: Texts) -> Corpus:
    return Corpus(len(texts), sum(map(len, texts)) / len(texts))


def by_formula(texts: Texts, query: list[str]) -> dict[int, float]:
    """BM25 written as in the books, one chunk and one term at a time."""
    mean = sum(map(len, texts)) / len(texts)
    scores = {}
    for i, text in enumerate(texts):
        tf = Counter(text)
        score = 0.0
        for term in query:
            n = sum(term in other for other in texts)
            weight = math.log(1 + (len(texts) - n + 0.5) / (n + 0.5))
            score += weight * tf[term] / (tf[term] + 1.2 * (1 - 0.75 + 0.75 * len(text) / mean))
        if any(term in tf for term in query):
            scores[100 + i] = score
    return scores


@settings(deadline=None, max_examples=25)
@given(TEXTS, st.lists(st.sampled_from("abcdef"), min_size=1, max_size=4), st.integers(1, 7))
def test_scores_are_those_of_the_formula(texts: Texts, query: list[str], segment: int) -> None:
    ranking = rank(blocks(texts, query, segment=segment), query, corpus(texts))
    expected = by_formula(texts, query)
    assert dict(zip(ranking.ids.tolist(), ranking.scores.round(9).tolist(), strict=True)) == {
        chunk: round(score, 9) for chunk, score in expected.items()
    }


def test_chunk_numbers_far_apart_score_as_close_ones_do() -> None:
    """Numbers are shared by all tenants, so one tenant's may lie billions apart."""
    texts = [["a", "b"], ["a"], ["b", "c"]]
    near = blocks(texts, ["a", "b"], segment=1)
    far = [Block(b.term, 100 + (b.base - 100) * 10**12, b.chunks, b.tfs, b.lengths) for b in near]
    close = rank(near, ["a", "b"], corpus(texts))
    apart = rank(far, ["a", "b"], corpus(texts))
    assert apart.ids.tolist() == [100 + (n - 100) * 10**12 for n in close.ids.tolist()]
    assert np.allclose(apart.scores, close.scores)


def test_nothing_matches_nothing() -> None:
    ranking = rank([], ["a"], Corpus(0, 0.0))
    assert [page.tolist() for page in ranking.pages()] == [[]]


def test_a_term_that_every_chunk_holds_still_counts_a_little() -> None:
    assert 0 < idf(1000, 1000) < idf(999, 1000) < idf(1, 1000)
    assert idf(1010, 1000) > 0, "dead postings may outnumber what the corpus counts"


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 5), max_size=60), st.integers(1, 20))
def test_pages_are_the_whole_ranking_best_first_with_ties_by_number(
    scores: list[int], first: int
) -> None:
    ranking = Ranking(np.arange(len(scores))[::-1].copy(), np.array(scores[::-1], np.float64))
    walked = [number for page in ranking.pages(first) for number in page.tolist()]
    assert walked == sorted(range(len(scores)), key=lambda i: (-scores[i], i))
