"""Texts of any length are packed with little padding and come back in their own order."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from penstock.models.batching import pack, pack_buckets, padded, restore, shared_budget

lengths = st.lists(st.integers(min_value=1, max_value=512), max_size=200)
budgets = st.integers(min_value=64, max_value=2_000)


@given(lengths, budgets)
def test_every_text_is_in_exactly_one_batch(given_lengths: list[int], budget: int) -> None:
    batches = pack(given_lengths, budget)
    assert sorted(i for batch in batches for i in batch) == list(range(len(given_lengths)))


@given(lengths, budgets)
def test_no_batch_exceeds_the_budget_with_its_padding(
    given_lengths: list[int], budget: int
) -> None:
    for batch in pack(given_lengths, budget):
        widest = max(given_lengths[i] for i in batch)
        assert len(batch) == 1 or len(batch) * widest <= budget


@given(lengths, budgets)
def test_a_batch_that_is_not_the_last_has_no_room_for_another_text(
    given_lengths: list[int], budget: int
) -> None:
    for batch in pack(given_lengths, budget)[:-1]:
        widest = max(given_lengths[i] for i in batch)
        assert (len(batch) + 1) * widest > budget


def test_texts_of_like_length_share_a_batch() -> None:
    assert pack([10, 400, 12, 390], 800) == [[1, 3], [2, 0]]


def test_a_text_longer_than_the_budget_is_alone() -> None:
    assert pack([100, 900, 100], 800) == [[1], [0, 2]]


def test_no_texts_make_no_batches() -> None:
    assert pack([], shared_budget([], 800, 4)) == []


def test_a_few_texts_are_spread_over_all_workers() -> None:
    assert len(pack([100, 100], shared_budget([100, 100], 800, 2))) == 2


def test_many_texts_keep_the_full_budget() -> None:
    assert shared_budget([100] * 100, 800, 2) == 800


@given(lengths, st.integers(min_value=1, max_value=64), st.integers(min_value=64, max_value=9_000))
def test_buckets_hold_their_texts_and_no_smaller_bucket_would(
    given_lengths: list[int], rows: int, tokens: int
) -> None:
    buckets = (64, 128, 256, 512)
    batches = pack_buckets(given_lengths, buckets, rows=rows, tokens=tokens)
    assert sorted(i for _, batch in batches for i in batch) == list(range(len(given_lengths)))
    for bucket, batch in batches:
        assert 1 <= len(batch) <= rows
        assert len(batch) == 1 or len(batch) * bucket <= tokens
        for index in batch:
            assert bucket == min(size for size in buckets if size >= given_lengths[index])


def test_padding_is_masked_out() -> None:
    ids, mask = padded([[101, 7, 102], [101, 102]], 4)
    assert ids.tolist() == [[101, 7, 102, 0], [101, 102, 0, 0]]
    assert mask.tolist() == [[1, 1, 1, 0], [1, 1, 0, 0]]
    assert ids.dtype == mask.dtype == np.int64


@given(lengths, budgets)
def test_vectors_come_back_in_the_order_of_the_texts(given_lengths: list[int], budget: int) -> None:
    batches = pack(given_lengths, budget)
    parts = [(batch, np.array([[i, -i] for i in batch], dtype=np.float32)) for batch in batches]
    vectors = restore(parts, len(given_lengths), 2)
    assert vectors.tolist() == [[i, -i] for i in range(len(given_lengths))]
