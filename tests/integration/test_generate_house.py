"""What the offline answerer makes of the sample documents: whole, and without the one that knows.

Real parsers, the real chunker, the real embedder; the six nearest passages are the evidence.
"""

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from penstock.client.commands.demo import DOCUMENTS
from penstock.common.events import Chunk, Passage, PassageRetrieved
from penstock.generate.ports import Written
from penstock.generate.quoting import Quoting
from penstock.ingest.jobs import Job
from penstock.ingest.worker import work
from penstock.models import Embedder, open_embedder
from penstock.models.ports import Vectors
from penstock.models.text import embedded_text

pytestmark = pytest.mark.connected

SAMPLES = Path(__file__).parents[2] / "samples"
HOUSE: dict[str, Any] = json.loads((Path(__file__).parent / "generate_house.json").read_text())
TOP_K = 6

# On the machine of the first run 25, 27 and 16; a processor without VNNI rounds otherwise.
ANSWERED_FLOOR = 23
REMOVED_FLOOR = 25
UNANSWERABLE_FLOOR = 15


@dataclass(frozen=True, slots=True)
class House:
    """The samples as an index of chunks, asked as the answerer is asked."""

    embedder: Embedder
    chunks: Sequence[tuple[str, str | None, Chunk]]
    """Each with its document and that document's title."""
    vectors: Vectors

    @classmethod
    async def build(cls, embedder: Embedder) -> "House":
        chunks = [
            (name, cut.title, chunk)
            for name in DOCUMENTS
            for cut in [work(_job(name, embedder.model))]
            for batch in cut.batches
            for chunk in batch
        ]
        texts = [embedded_text(title, c.heading_path, c.text) for _, title, c in chunks]
        return cls(embedder, chunks, await embedder.embed_documents(texts))

    async def ask(self, question: str, without: str | None = None) -> Written:
        similarity = self.vectors @ await self.embedder.embed_query(question)
        order = [int(i) for i in (-similarity).argsort() if self.chunks[i][0] != without][:TOP_K]
        found = tuple(
            self._passage(i, float(similarity[i]), rank) for rank, i in enumerate(order, 1)
        )

        async def embedder_of(tenant: str, collection: str) -> Embedder:
            return self.embedder

        asked = PassageRetrieved(question=question, passages=found)
        *_, last = [w async for w in Quoting(embedder_of).write("t", asked, found)]
        return last

    def _passage(self, index: int, similarity: float, rank: int) -> Passage:
        document, title, chunk = self.chunks[index]
        return Passage(
            chunk_id=str(index), document_id=document, version=1, score=similarity, rank=rank,
            title=title, heading_path=chunk.heading_path, text=chunk.text, span=chunk.span,
            dense_score=similarity,
        )  # fmt: skip


def _job(name: str, model: str) -> Job:
    data = (SAMPLES / name).read_bytes()
    return Job(data=data, filename=name, model=model, chunk_tokens=220, max_chunks=1000)


def right(answer: Written, document: str, word: str) -> bool:
    cited = {citation.document_id for citation in answer.citations}
    return not answer.abstained and document in cited and word in answer.text


@pytest.fixture(scope="module")
async def house() -> AsyncIterator[House]:
    async with open_embedder() as embedder:
        yield await House.build(embedder)


async def test_questions_about_the_samples_are_answered_from_the_document_that_knows(
    house: House,
) -> None:
    wrong = [
        (item["question"], answer.text)
        for item in HOUSE["answered"]
        for answer in [await house.ask(item["question"])]
        if not right(answer, item["document"], item["word"])
    ]
    assert len(HOUSE["answered"]) - len(wrong) >= ANSWERED_FLOOR, wrong


async def test_with_that_document_gone_nothing_else_is_quoted_in_its_place(house: House) -> None:
    told = [
        (item["question"], answer.text)
        for item in HOUSE["answered"]
        for answer in [await house.ask(item["question"], without=item["document"])]
        if not answer.abstained
    ]
    assert len(HOUSE["answered"]) - len(told) >= REMOVED_FLOOR, told


async def test_what_the_samples_do_not_tell_is_not_made_up(house: House) -> None:
    told = [
        (question, answer.text)
        for question in HOUSE["unanswerable"]
        for answer in [await house.ask(question)]
        if not answer.abstained
    ]
    assert len(HOUSE["unanswerable"]) - len(told) >= UNANSWERABLE_FLOOR, told
