"""The same promises from every embedder: ONNX Runtime in process, and a real tritonserver."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from penstock.common.failures import PermanentError, TransientError
from penstock.local.ports import free_port
from penstock.models import DEFAULT_MODEL, Embedder, ModelSettings, model_spec, open_embedder
from penstock.models.cache import model_files
from penstock.models.triton import TritonEmbedder

pytestmark = pytest.mark.connected

TEXTS = [
    "The penstock carries the river's water down to the turbine.",
    "Bread dough rises because yeast turns sugar into carbon dioxide.",
    "A consumer group divides the partitions of a topic among its members. " * 6,
    "Rail",
    "The judge adjourned the hearing until the witness could be found. " * 30,
]


@pytest.fixture(scope="session")
def triton(tritonserver: Any) -> Any:
    """A tritonserver that serves the default model's int8 graph."""
    tritonserver.start()
    return tritonserver


@pytest.fixture(
    params=[("onnx", DEFAULT_MODEL), ("onnx", "all-minilm-l6-v2"), ("triton", DEFAULT_MODEL)],
    ids=" ".join,
)
async def embedder(request: pytest.FixtureRequest) -> AsyncIterator[Embedder]:
    backend, model = request.param
    settings = ModelSettings()
    if backend == "triton":
        settings = ModelSettings(triton=request.getfixturevalue("triton").address)
    try:
        await asyncio.to_thread(model_files, model_spec(model), "int8", settings)
    except TransientError as error:
        pytest.skip(str(error))
    async with open_embedder(model, backend=backend, settings=settings) as opened:
        yield opened


async def test_every_text_gets_a_unit_vector(embedder: Embedder) -> None:
    vectors = await embedder.embed_documents(TEXTS)
    assert vectors.shape == (len(TEXTS), embedder.dim)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-5)


async def test_vectors_are_in_the_order_of_the_texts(embedder: Embedder) -> None:
    """Texts of other lengths beside it do not move a text: it is nearest to itself alone."""
    together = await embedder.embed_documents(TEXTS)
    for index, text in enumerate(TEXTS):
        alone = (await embedder.embed_documents([text]))[0]
        assert int(np.argmax(together @ alone)) == index
        # An int8 graph rounds by the range of the whole batch, padding included.
        assert together[index] @ alone > 0.98


async def test_no_texts_give_no_vectors(embedder: Embedder) -> None:
    assert (await embedder.embed_documents([])).shape == (0, embedder.dim)


async def test_a_question_finds_its_passage(embedder: Embedder) -> None:
    vectors = await embedder.embed_documents(TEXTS)
    for question, index in (
        ("What makes bread rise?", 1),
        ("How are a topic's partitions shared among consumers?", 2),
        ("Where does the water for the turbine come from?", 0),
    ):
        vector = await embedder.embed_query(question)
        assert vector.shape == (embedder.dim,)
        assert vector.dtype == np.float32
        assert int(np.argmax(vectors @ vector)) == index


async def test_what_lies_beyond_the_window_is_not_seen(embedder: Embedder) -> None:
    window = "water " * embedder.max_tokens
    first, second = await embedder.embed_documents([window, window + "and something else"])
    assert first @ second > 0.999


async def test_an_empty_text_has_a_vector_too(embedder: Embedder) -> None:
    vectors = await embedder.embed_documents(["", "water"])
    assert np.isfinite(vectors).all()


async def test_many_at_once_all_get_their_own_answer(embedder: Embedder) -> None:
    questions = [f"What is said about {subject}?" for subject in ("water", "bread", "law") * 8]
    answers = await asyncio.gather(*map(embedder.embed_query, questions))
    for answer, same in zip(answers[:3], answers[3:6], strict=True):
        assert answer @ same > 0.98
    assert answers[0] @ answers[1] < 0.95


async def test_both_embedders_agree(triton: Any) -> None:
    """A worker on Triton and a searcher without a GPU can serve one index."""
    async with (
        open_embedder(backend="onnx") as local,
        open_embedder(backend="triton", settings=ModelSettings(triton=triton.address)) as remote,
    ):
        here, there = await local.embed_documents(TEXTS), await remote.embed_documents(TEXTS)
        question = "What makes bread rise?"
        assert (here * there).sum(axis=1).min() > 0.98
        assert await local.embed_query(question) @ await remote.embed_query(question) > 0.98


async def test_triton_merges_requests_of_many_callers(triton: Any) -> None:
    settings = ModelSettings(triton=triton.address)
    async with open_embedder(backend="triton", settings=settings) as embedder:
        before = len(triton.batch_sizes())
        await asyncio.gather(*(embedder.embed_query(f"question {i}") for i in range(32)))
    sizes = triton.batch_sizes()[before:]
    assert sum(sizes) == 32
    assert max(sizes) > 1


async def test_a_server_that_is_away_is_waited_for() -> None:
    settings = ModelSettings(triton=f"127.0.0.1:{free_port()}")
    async with open_embedder(backend="triton", settings=settings) as embedder:
        with pytest.raises(TransientError, match="away or busy"):
            await embedder.embed_documents(["water"])


async def test_a_server_that_is_too_slow_is_waited_for(triton: Any) -> None:
    settings = ModelSettings(triton=triton.address, triton_timeout_s=0.001)
    async with open_embedder(backend="triton", settings=settings) as embedder:
        with pytest.raises(TransientError, match="DEADLINE_EXCEEDED"):
            await embedder.embed_documents(["water " * 400] * 8)


async def test_a_question_does_not_wait_long_for_a_server_that_stalls(
    triton: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Documents have time; a person hears what is away before the API gives the searcher up."""
    monkeypatch.setattr("penstock.models.triton.QUESTION_S", 0.3)
    settings = ModelSettings(triton=triton.address)
    async with open_embedder(backend="triton", settings=settings) as embedder:
        await embedder.embed_query("water")
        triton.stall()
        try:
            documents = asyncio.create_task(embedder.embed_documents(["water"]))
            with pytest.raises(TransientError, match="DEADLINE_EXCEEDED"):
                await embedder.embed_query("water")
            assert not documents.done()
        finally:
            triton.go_on()
        assert len(await documents) == 1


async def test_a_model_that_the_server_lacks_is_an_error_for_good(triton: Any) -> None:
    settings = ModelSettings(triton=triton.address)
    spec = replace(model_spec(DEFAULT_MODEL), name="bge-huge")
    async with open_embedder(backend="triton", settings=settings) as known:
        assert isinstance(known, TritonEmbedder)
        unknown = TritonEmbedder(spec, known._client, known._tokenizer, 10.0)
        with pytest.raises(PermanentError, match="bge-huge") as caught:
            await unknown.embed_query("water")
    assert caught.value.type == "model_refused"


async def test_a_server_with_vectors_of_another_size_is_an_error_for_good(triton: Any) -> None:
    settings = ModelSettings(triton=triton.address)
    spec = replace(model_spec(DEFAULT_MODEL), dim=768)
    async with open_embedder(backend="triton", settings=settings) as known:
        assert isinstance(known, TritonEmbedder)
        wider = TritonEmbedder(spec, known._client, known._tokenizer, 10.0)
        with pytest.raises(PermanentError, match="768") as caught:
            await wider.embed_query("water")
    assert caught.value.type == "model_shape"
