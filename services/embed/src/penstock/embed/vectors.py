"""How vectors travel in an event. Pure functions."""

import numpy as np
from numpy.typing import NDArray

WIRE_TYPE = np.dtype("<f2")
"""Little-endian float16: the index keeps no more (halfvec)."""


def to_wire(vectors: NDArray[np.float32]) -> bytes:
    """Row-major float16 of shape (n, dim); unit vectors lose less than 0.001 in any component."""
    return np.ascontiguousarray(vectors, dtype=WIRE_TYPE).tobytes()


def from_wire(content: bytes, dim: int) -> NDArray[np.float16]:
    """The vectors again, read-only, shape (n, dim)."""
    return np.frombuffer(content, dtype=WIRE_TYPE).reshape(-1, dim)
