"""Chunks in, vectors out."""

from collections.abc import Sequence
from itertools import accumulate, chain, pairwise
from time import perf_counter
from typing import Any

import structlog

from penstock.common.envelope import Publication, Record, follow
from penstock.common.events import DocumentCleared, DocumentEmbedded, Stage
from penstock.common.failures import PermanentError
from penstock.common.kafka import Collections
from penstock.common.progress import progressed
from penstock.common.topics import DOCUMENT_EMBEDDED
from penstock.embed.vectors import to_wire
from penstock.models import Embedder, Vectors, embedded_text

log = structlog.get_logger()


async def embed_documents(
    records: Sequence[Record[DocumentCleared]], *, embedder: Embedder, collections: Collections
) -> Sequence[Publication[Any]]:
    """
    Embed the chunks of all records together; announce each record with its vectors.

    Safe to repeat: nothing is kept, and the same chunks give the same vectors again, up to the
    rounding of an int8 model, which depends a little on what else is in the batch.
    """
    for record in records:
        require_own_model(record, embedder.model, collections)
    texts = [texts_of(record.value) for record in records]
    started = perf_counter()
    vectors = await embedder.embed_documents(list(chain.from_iterable(texts)))
    log.info(
        "chunks_embedded",
        model=embedder.model,
        records=len(records),
        chunks=len(vectors),
        seconds=round(perf_counter() - started, 4),
    )
    bounds = pairwise(accumulate(map(len, texts), initial=0))
    return [
        publication
        for record, (start, end) in zip(records, bounds, strict=True)
        for publication in announcements(record, embedder, vectors[start:end])
    ]


def require_own_model(
    record: Record[DocumentCleared], model: str, collections: Collections
) -> None:
    """`PermanentError` (model_mismatch) for a collection that is embedded with another model."""
    name = record.value.collection
    wanted = collections.get(record.envelope.tenant, name).model
    if wanted != model:
        raise PermanentError(
            f"collection {name!r} is embedded with {wanted}, this worker runs {model}: start a "
            f"worker with PENSTOCK_EMBED_MODEL={wanted}, then redrive this record",
            type="model_mismatch",
        )


def texts_of(batch: DocumentCleared) -> list[str]:
    """What the model sees of each chunk."""
    return [embedded_text(batch.title, chunk.heading_path, chunk.text) for chunk in batch.chunks]


def announcements(
    record: Record[DocumentCleared], embedder: Embedder, vectors: Vectors
) -> list[Publication[Any]]:
    """`document.embedded` with one row per chunk, and the job's progress."""
    batch = record.value
    embedded = DocumentEmbedded(
        **dict(batch), model=embedder.model, dim=embedder.dim, vectors=to_wire(vectors)
    )
    return [
        follow(record, DOCUMENT_EMBEDDED, embedded),
        progressed(record, Stage.EMBED, k=batch.k, n=batch.n),
    ]
