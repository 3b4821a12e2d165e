"""A text's vector is a unit vector made of its own tokens alone."""

import numpy as np
import pytest

from penstock.models.pooling import normalised, pool

STATES = np.array([[[3, 4], [0, 2], [9, 9]]], dtype=np.float32)
MASK = np.array([[1, 1, 0]], dtype=np.int64)


def test_cls_takes_the_first_token() -> None:
    assert pool(STATES, MASK, "cls") == pytest.approx(np.array([[0.6, 0.8]]))


def test_mean_leaves_padding_out() -> None:
    expected = np.array([[1.5, 3.0]]) / np.hypot(1.5, 3.0)
    assert pool(STATES, MASK, "mean") == pytest.approx(expected)


def test_padding_does_not_change_a_vector() -> None:
    wider = np.concatenate([STATES, np.full((1, 5, 2), 7, dtype=np.float32)], axis=1)
    wider_mask = np.concatenate([MASK, np.zeros((1, 5), dtype=np.int64)], axis=1)
    assert pool(wider, wider_mask, "mean") == pytest.approx(pool(STATES, MASK, "mean"))


def test_a_row_of_zeros_stays_finite() -> None:
    assert normalised(np.zeros((1, 4), dtype=np.float32)).tolist() == [[0, 0, 0, 0]]
