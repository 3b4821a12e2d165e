"""An index that holds something already: so many chunks whose vectors lie as real ones do."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import penstock.retrieve
from penstock.common.db import Database
from penstock.common.envelope import Envelope, Record
from penstock.common.events import Chunk, DocumentEmbedded, ElementKind, Position, TextSpan
from penstock.models import Embedder
from penstock.retrieve import writing
from penstock.retrieve.indexer import Index
from whole import Stack

SEED = 7
MIGRATIONS = Path(next(iter(penstock.retrieve.__path__))) / "migrations"


async def fill(stack: Stack, embedder: Embedder, texts: Sequence[str], count: int) -> float:
    """`count` chunks into the index, by the indexer's own code; chunks per second."""
    vectors = await embedder.embed_documents(texts)
    chance = np.random.default_rng(SEED)
    async with Database.open(
        stack.dsn("retrieve"), schema="retrieve", migrations=MIGRATIONS, setup=writing.setup
    ) as database:
        index = Index(database)
        started = time.perf_counter()
        for first in range(0, count, 1024):
            await index.write(_filling(chance, texts, vectors, first, min(1024, count - first)))
        return count / (time.perf_counter() - started)


def _filling(
    chance: np.random.Generator, texts: Sequence[str], vectors: Any, first: int, count: int
) -> list[Record[DocumentEmbedded]]:
    """Documents of 16 chunks, each a mixture of two of the embedded texts."""
    one, other = chance.integers(0, len(texts), (2, count))
    share = chance.uniform(0.5, 1.0, (count, 1)).astype(np.float32)
    mixed = share * vectors[one] + (1 - share) * vectors[other]
    mixed /= np.linalg.norm(mixed, axis=1, keepdims=True)
    position = Position(cluster="bench", partition=0, offset=0, at=0)
    made = []
    for at in range(0, count, 16):
        chunks = tuple(
            Chunk(
                ordinal=i,
                text=f"{texts[n]} {first + at + i}",
                kind=ElementKind.PARAGRAPH,
                span=TextSpan(start=0, end=len(texts[n])),
            )
            for i, n in enumerate(one[at : at + 16].tolist())
        )
        name = f"filling/{first + at}"
        body = DocumentEmbedded(
            document=name, collection="filling", submission=name, position=position, version=1,
            generation=1, cut="filling", k=0, n=1, chunks=chunks, model="bench",
            dim=mixed.shape[1], vectors=mixed[at : at + 16].astype("<f2").tobytes(),
        )  # fmt: skip
        envelope = Envelope(id=name, tenant="default", job=name)
        made.append(Record("bench", 0, 0, position, f"default/{name}", envelope, body))
    return made
