"""From a vector per token to a unit vector per text. Pure functions."""

import numpy as np
from numpy.typing import NDArray

from penstock.models.registry import Pooling


def pool(
    states: NDArray[np.float32], mask: NDArray[np.int64], pooling: Pooling
) -> NDArray[np.float32]:
    """States (n, tokens, dim) and mask (n, tokens) to L2-normalised float32 (n, dim)."""
    if pooling == "cls":
        vectors = states[:, 0]
    else:
        weights = mask.astype(np.float32)
        summed = np.einsum("ntd,nt->nd", states, weights)
        vectors = summed / weights.sum(axis=1, keepdims=True)
    return normalised(vectors)


def normalised(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length 1. A row of zeros, which no model gives, stays zeros."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float32)
