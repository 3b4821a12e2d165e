"""The writer that needs no model: quotes, or "I don't know."."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from penstock.common.events import Citation, Passage, PassageRetrieved, TextSpan
from penstock.generate.extractive import (
    DEFAULT_WEIGHTS,
    WEIGHTS,
    Extract,
    Question,
    candidates,
    extract,
)
from penstock.generate.ports import Written
from penstock.generate.sentences import Sentence
from penstock.models import Embedder

UNKNOWN = "I don't know."
MODEL = "extractive"


class Quoting:
    """Quotes the sentences that answer. `embedder_of` gives the embedder of a collection."""

    def __init__(self, embedder_of: Callable[[str, str], Awaitable[Embedder]]) -> None:
        self._embedder_of = embedder_of

    async def write(
        self, tenant: str, question: PassageRetrieved, passages: Sequence[Passage]
    ) -> AsyncIterator[Written]:
        found = await self._extract(tenant, question, passages)
        if not found.quotes:
            yield Written(UNKNOWN, final=True, abstained=True, model=MODEL)
            return
        citations = [
            cite(marker, passages[quote.passage], quote.sentence)
            for marker, quote in enumerate(found.quotes, 1)
        ]
        sentences = [f"{citation.quote} [{citation.marker}]" for citation in citations]
        for sentence, citation in zip(sentences, citations, strict=True):
            yield Written(sentence, (citation,), model=MODEL)
        yield Written("\n".join(sentences), tuple(citations), final=True, model=MODEL)

    async def _extract(
        self, tenant: str, question: PassageRetrieved, passages: Sequence[Passage]
    ) -> Extract:
        asked = Question.read(question.question)
        found = candidates(asked, passages)
        if not found:
            return Extract((), 0.0)
        embedder = await self._embedder_of(tenant, question.collection)
        vector = await embedder.embed_query(asked.text)
        vectors = await embedder.embed_documents([c.sentence.text for c in found])
        weights = WEIGHTS.get(embedder.model, DEFAULT_WEIGHTS)
        closeness = (vectors @ vector).tolist()
        return extract(asked, passages, found, closeness, weights)


def cite(marker: int, passage: Passage, sentence: Sentence) -> Citation:
    """A citation whose quote is the document's text at `start`..`end`."""
    span = TextSpan(
        start=passage.span.start + sentence.start, end=passage.span.start + sentence.end
    )
    return Citation(
        marker=marker,
        document_id=passage.document_id,
        version=passage.version,
        chunk_id=passage.chunk_id,
        quote=sentence.text,
        start=span.start,
        end=span.end,
        title=passage.title,
    )
