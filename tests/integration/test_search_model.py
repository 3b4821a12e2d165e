"""A collection is searched with the model that it is embedded with."""

from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

import penstock.retrieve
from penstock.common.db import Database
from penstock.common.envelope import Envelope, Record, document_key
from penstock.common.events import (
    Chunk,
    CollectionConfigured,
    DocumentEmbedded,
    ElementKind,
    PassageRetrieved,
    Position,
    QuestionPlanned,
    TextSpan,
)
from penstock.common.settings import DatabaseSettings
from penstock.local.stack import Servers
from penstock.models import embedded_text, open_embedder
from penstock.retrieve import writing
from penstock.retrieve.indexer import Index
from penstock.retrieve.searcher import SearcherProcess

pytestmark = pytest.mark.connected

FAST_MODEL = "all-minilm-l6-v2"
TENANT = f"model-{uuid4().hex[:8]}"
MIGRATIONS = Path(next(iter(penstock.retrieve.__path__))) / "migrations"
POSITION = Position(cluster="c", partition=0, offset=0, at=0)
TEXT = "The gate lamp burns for a year."
QUESTION = "How long does the lamp last?"


def embedded(vector: bytes) -> Record[DocumentEmbedded]:
    span = TextSpan(start=0, end=len(TEXT))
    body = DocumentEmbedded(
        document="lamps", collection="fast", submission="s", position=POSITION, version=1,
        generation=1, cut="c", k=0, n=1, title="Lamps",
        chunks=(Chunk(ordinal=0, text=TEXT, kind=ElementKind.PARAGRAPH, span=span),),
        model=FAST_MODEL, dim=384, vectors=vector,
    )  # fmt: skip
    envelope = Envelope(id=uuid4().hex, tenant=TENANT, job="j")
    return Record("t", 0, 0, POSITION, document_key(TENANT, "lamps"), envelope, body)


async def test_a_question_to_a_collection_of_the_fast_model_is_embedded_with_it(
    servers: Servers, fast_model: None
) -> None:
    async with open_embedder(FAST_MODEL) as fast, open_embedder() as default:
        (vector,) = await fast.embed_documents([embedded_text("Lamps", (), TEXT)])
        expected = float(vector @ await fast.embed_query(QUESTION))
        wrong = float(vector @ await default.embed_query(QUESTION))
    async with Database.open(
        servers.dsns["retrieve"], schema="retrieve", migrations=MIGRATIONS, setup=writing.setup
    ) as database:
        await Index(database).write([embedded(vector.astype("<f2").tobytes())])

    settings = DatabaseSettings(
        kafka=servers.kafka, database=servers.dsns["retrieve"], service_secret="x" * 32
    )
    searcher = SearcherProcess(settings)
    searcher.stage.collections.apply(
        TENANT, "fast", CollectionConfigured(name="fast", model=FAST_MODEL)
    )
    question = QuestionPlanned(question=QUESTION, searches=(QUESTION,), collection="fast")
    envelope = Envelope(id=uuid4().hex, tenant=TENANT, job="q")
    asked = Record("t", 0, 0, POSITION, document_key(TENANT, "q"), envelope, question)
    async with searcher.resources():
        retrieved, _ = await searcher.retrieve([asked])
    assert isinstance(retrieved.body, PassageRetrieved)
    (passage,) = retrieved.body.passages
    assert passage.dense_score == pytest.approx(expected, abs=0.01)
    assert np.abs(expected - wrong) > 0.1
