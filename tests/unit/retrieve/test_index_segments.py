"""Segments: what is built is what was written, what is merged is what was there and is alive."""

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.retrieve import segments
from penstock.retrieve.segments import Built, Segment, StoredPostings, build, merge, plan

NONE = np.array([], np.int64)

WORDS = st.lists(st.sampled_from("abcdefgh"), max_size=12)
CHUNKS = st.lists(WORDS, min_size=1, max_size=6)

Postings = dict[tuple[str, int], tuple[int, int]]


def postings(built: Built) -> Postings:
    """(term, chunk number) to (tf, length)."""
    found: Postings = {}
    for row in built.postings:
        offsets = np.frombuffer(row.chunks, "<i4")
        assert (np.diff(offsets) > 0).all(), "ascending, no chunk twice"
        lengths = np.frombuffer(row.lengths, "<u2")
        for offset, tf, length in zip(offsets.tolist(), row.tfs, lengths.tolist(), strict=True):
            found[row.term, built.base + offset] = (tf, length)
    return found


def expected(chunks: dict[int, list[str]]) -> Postings:
    return {
        (term, number): (tf, len(words))
        for number, words in chunks.items()
        for term, tf in Counter(words).items()
    }


def stored(number: int, built: Built) -> tuple[Segment, list[StoredPostings]]:
    members = segments.members_of(built.base, built.members)
    segment = Segment(number, built.base, built.chunks, built.total_length, members)
    return segment, [StoredPostings(number, row) for row in built.postings]


def numbered(first: int, chunks: list[list[str]]) -> dict[int, list[str]]:
    return {first + 3 * i: words for i, words in enumerate(chunks)}


@given(CHUNKS)
@settings(max_examples=50)
def test_a_segment_holds_every_term_of_every_chunk(chunks: list[list[str]]) -> None:
    held = numbered(10**12, chunks)
    built = build(list(held), list(held.values()))
    assert postings(built) == expected(held)
    assert [row.term for row in built.postings] == sorted({w for words in chunks for w in words})
    assert (built.chunks, built.total_length) == (len(held), sum(map(len, chunks)))
    assert segments.members_of(built.base, built.members).tolist() == list(held)


@given(st.lists(CHUNKS, min_size=1, max_size=4), st.data())
@settings(max_examples=50)
def test_a_merge_keeps_the_living_and_drops_the_dead(
    groups: list[list[list[str]]], data: st.DataObject
) -> None:
    """Also when the ranges of the segments overlap, as those of writers at once do."""
    alive: dict[int, list[str]] = {}
    parts = []
    for i, chunks in enumerate(groups):
        held = numbered(1000 + i, chunks) if i < 3 else numbered(5000, chunks)
        alive |= held
        parts.append(stored(i + 1, build(list(held), list(held.values()))))
    dead = data.draw(st.sets(st.sampled_from(sorted(alive))))
    for number in dead:
        del alive[number]
    merged = merge(
        [segment for segment, _ in parts],
        [row for _, rows in parts for row in rows],
        np.array(sorted(dead), np.int64),
    )
    if not alive:
        assert merged is None
        return
    assert merged is not None
    assert postings(merged) == expected(alive)
    assert merged.chunks == len(alive)
    assert merged.total_length == sum(map(len, alive.values()))
    assert segments.members_of(merged.base, merged.members).tolist() == sorted(alive)


def test_counts_that_do_not_fit_are_cut_not_wrapped() -> None:
    built = build([1], [["a"] * 70_000])
    assert postings(built) == {("a", 1): (255, 65_535)}
    assert built.total_length == 70_000


def sized(*chunks: int) -> list[Segment]:
    found, base = [], 0
    for number, size in enumerate(chunks):
        found.append(Segment(number, base, size, size, np.arange(base, base + size)))
        base += size
    return found


def chosen(found: list[Segment] | None) -> list[int]:
    return [segment.id for segment in found or ()]


def test_segments_of_one_size_are_merged_when_there_are_enough() -> None:
    assert plan(sized(*[5] * 7), NONE, NONE) is None
    assert chosen(plan(sized(100, *[5] * 8), NONE, NONE)) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_segment_with_many_dead_is_rewritten_alone() -> None:
    found = sized(100, 10)
    assert plan(found, np.arange(29), NONE) is None
    assert chosen(plan(found, np.arange(30), NONE)) == [0]


def test_what_is_owed_to_a_purge_comes_first_however_little_it_is() -> None:
    found = sized(100, 10, 10)
    assert chosen(plan(found, np.array([105]), np.array([105]))) == [1]
    assert chosen(plan(found, np.array([105, 3]), np.array([105, 3]))) == [0, 1]


def test_no_merge_is_larger_than_memory_or_offsets_allow() -> None:
    half = segments.MAX_CHUNKS // 2
    assert plan(sized(*[half + 1] * 9), NONE, NONE) is None
    assert len(plan(sized(*[half // 2] * 9), NONE, NONE) or ()) == 4
    far = [Segment(i, i * 2**30, 2, 2, i * 2**30 + np.arange(2)) for i in range(8)]
    assert chosen(plan(far, NONE, NONE)) == [0, 1]


def test_a_merge_that_the_limits_leave_alone_does_not_go_round_for_ever() -> None:
    far = [Segment(i, i * 2**32, 2, 2, i * 2**32 + np.arange(2)) for i in range(8)]
    assert plan(far, NONE, NONE) is None
