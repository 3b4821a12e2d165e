"""What the services need of a model, whatever runs it."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


class Embedder(Protocol):
    """Turns texts into unit vectors: the dot product of two is their cosine similarity.

    Raises `TransientError` when what runs the model is away, `PermanentError` when it cannot run
    this model.
    """

    @property
    def model(self) -> str: ...

    @property
    def dim(self) -> int: ...

    @property
    def max_tokens(self) -> int:
        """Tokens of a text beyond this many are not seen by the model."""
        ...

    async def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """float32, shape (texts, dim), in the texts' order."""
        ...

    async def embed_query(self, text: str) -> Vectors:
        """float32, shape (dim,). Never queued behind documents."""
        ...

    async def close(self) -> None: ...
