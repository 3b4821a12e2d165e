"""Every batch of chunks leaves with its own vectors, from the model of its collection."""

from collections.abc import Sequence

import numpy as np
import pytest

from penstock.common.envelope import Envelope, Record
from penstock.common.events import (
    Chunk,
    CollectionConfigured,
    DocumentCleared,
    DocumentEmbedded,
    ElementKind,
    JobProgressed,
    Position,
    ProgressState,
    Stage,
    TextSpan,
)
from penstock.common.failures import PermanentError
from penstock.common.kafka import Collections
from penstock.common.topics import DOCUMENT_CLEARED, DOCUMENT_EMBEDDED, JOB_PROGRESSED
from penstock.embed.handlers import embed_documents
from penstock.embed.vectors import from_wire, to_wire
from penstock.models import Vectors
from penstock.models.pooling import normalised


class LetterEmbedder:
    """An embedder that counts letters: equal texts and no others have equal vectors here."""

    model = "bge-small-en-v1.5"
    dim = 26
    max_tokens = 512

    async def embed_documents(self, texts: Sequence[str]) -> Vectors:
        letters = [[text.lower().count(chr(97 + i)) for i in range(26)] for text in texts]
        return normalised(np.array(letters, dtype=np.float32).reshape(-1, 26))

    async def embed_query(self, text: str) -> Vectors:
        vector: Vectors = (await self.embed_documents([text]))[0]
        return vector

    async def close(self) -> None:
        """Holds nothing."""


def cleared(
    name: str, texts: Sequence[str], *, collection: str = "default", k: int = 0, n: int = 1
) -> Record[DocumentCleared]:
    position = Position(cluster="c", partition=0, offset=1, at=1)
    chunks = tuple(
        Chunk(
            ordinal=i,
            text=text,
            kind=ElementKind.PARAGRAPH,
            span=TextSpan(start=0, end=len(text)),
            heading_path=("Travel",),
        )
        for i, text in enumerate(texts)
    )
    body = DocumentCleared(
        document=name, collection=collection, submission=f"s-{name}", position=position, version=3,
        generation=1, cut="cut", k=k, n=n, title="Handbook", metadata={"team": "a"},
        access=("staff",), chunks=chunks,
    )  # fmt: skip
    envelope = Envelope(id=f"e-{name}", tenant="default", job=f"j-{name}")
    topic = DOCUMENT_CLEARED.name
    return Record(topic, 0, 1, position, f"default/{name}", envelope, body)


@pytest.fixture
def collections() -> Collections:
    known = Collections("default")
    known.apply("default", "small", CollectionConfigured(name="small", model="all-minilm-l6-v2"))
    return known


async def test_each_record_gets_the_vectors_of_its_own_chunks(collections: Collections) -> None:
    embedder = LetterEmbedder()
    records = [cleared("one", ["alpha", "beta"]), cleared("two", []), cleared("three", ["gamma"])]
    sent = await embed_documents(records, embedder=embedder, collections=collections)
    bodies = [p.body for p in sent if p.topic is DOCUMENT_EMBEDDED]
    assert [body.document for body in bodies if isinstance(body, DocumentEmbedded)] == [
        "one", "two", "three",
    ]  # fmt: skip
    for body, texts in zip(bodies, (["alpha", "beta"], [], ["gamma"]), strict=True):
        assert isinstance(body, DocumentEmbedded)
        expected = await embedder.embed_documents([f"Handbook > Travel\n{t}" for t in texts])
        assert from_wire(body.vectors, body.dim) == pytest.approx(expected, abs=1e-3)


async def test_what_came_with_the_chunks_goes_on_with_them(collections: Collections) -> None:
    record = cleared("one", ["alpha"], k=2, n=5)
    embedded, progress = await embed_documents(
        [record], embedder=LetterEmbedder(), collections=collections
    )
    assert isinstance(embedded.body, DocumentEmbedded)
    assert (embedded.body.model, embedded.body.dim) == ("bge-small-en-v1.5", 26)
    assert DocumentCleared.model_validate(embedded.body.model_dump()) == record.value
    assert (embedded.key, embedded.envelope.job) == ("default/one", "j-one")

    assert progress.topic is JOB_PROGRESSED
    assert progress.key == "j-one"
    assert isinstance(progress.body, JobProgressed)
    assert (progress.body.stage, progress.body.state) == (Stage.EMBED, ProgressState.DONE)
    assert (progress.body.document, progress.body.version) == ("one", 3)
    assert (progress.body.k, progress.body.n) == (2, 5)


async def test_a_redelivery_announces_the_same_vectors(collections: Collections) -> None:
    record = cleared("one", ["alpha", "beta"])
    first = await embed_documents([record], embedder=LetterEmbedder(), collections=collections)
    again = await embed_documents([record], embedder=LetterEmbedder(), collections=collections)
    assert [p.body for p in first] == [p.body for p in again]


async def test_another_models_collection_is_refused_with_what_to_do(
    collections: Collections,
) -> None:
    with pytest.raises(PermanentError, match="PENSTOCK_EMBED_MODEL=all-minilm-l6-v2") as caught:
        await embed_documents(
            [cleared("one", ["alpha"], collection="small")],
            embedder=LetterEmbedder(),
            collections=collections,
        )
    assert caught.value.type == "model_mismatch"


async def test_an_unknown_collection_is_refused(collections: Collections) -> None:
    with pytest.raises(PermanentError, match="not configured"):
        await embed_documents(
            [cleared("one", ["alpha"], collection="nowhere")],
            embedder=LetterEmbedder(),
            collections=collections,
        )


def test_vectors_travel_as_little_endian_float16_rows() -> None:
    wire = to_wire(np.array([[1.0, -0.5], [0.25, 0.0]], dtype=np.float32))
    assert wire == b"\x00\x3c\x00\xb8\x00\x34\x00\x00"
    assert from_wire(wire, 2).tolist() == [[1.0, -0.5], [0.25, 0.0]]
