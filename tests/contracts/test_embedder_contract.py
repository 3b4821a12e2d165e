"""The same promises from every embedder: ONNX Runtime in process, and a real tritonserver."""

import asyncio
import fcntl
import os
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import pytest

from penstock.common.failures import PermanentError, TransientError
from penstock.local.ports import free_port
from penstock.models import DEFAULT_MODEL, Embedder, ModelSettings, model_spec, open_embedder
from penstock.models.cache import model_files
from penstock.models.triton import TritonEmbedder

pytestmark = pytest.mark.connected

SERVER = Path(__file__).parent / "pytriton_server.py"
PACKAGES = ("nvidia-pytriton==0.7.0", "onnxruntime==1.31.1")
PYTHON = "/usr/bin/python3"
START_S = 90.0

TEXTS = [
    "The penstock carries the river's water down to the turbine.",
    "Bread dough rises because yeast turns sugar into carbon dioxide.",
    "A consumer group divides the partitions of a topic among its members. " * 6,
    "Rail",
    "The judge adjourned the hearing until the witness could be found. " * 30,
]


@dataclass(frozen=True)
class Server:
    """A running tritonserver and what it says."""

    address: str
    log: Path

    def batch_sizes(self) -> list[int]:
        lines = self.log.read_text().splitlines()
        return [int(line.split("(")[1].split(",")[0]) for line in lines if line[:6] == "batch "]


def environment() -> Path:
    """PyTriton's own environment (it needs numpy < 2), made once; its Python."""
    folder = ModelSettings().models.expanduser().parent / "pytriton-0.7.0"
    uv = shutil.which("uv")
    if uv is None or not Path(PYTHON).exists():
        pytest.skip(f"a real tritonserver needs uv and {PYTHON} with a shared libpython")
    folder.parent.mkdir(parents=True, exist_ok=True)
    python = folder / "bin/python"
    with (folder.parent / f"{folder.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            for command in (
                [uv, "venv", "--quiet", "--clear", "--python", PYTHON, str(folder)],
                [uv, "pip", "install", "--quiet", "--python", str(python), *PACKAGES],
            ):
                made = subprocess.run(command, capture_output=True, text=True, check=False)
                if made.returncode:
                    pytest.skip(f"PyTriton's environment cannot be made: {made.stderr.strip()}")
            (folder / "complete").touch()
    return python


@pytest.fixture(scope="session")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A tritonserver that serves the default model's int8 graph."""
    python = environment()
    files = model_files(model_spec(DEFAULT_MODEL), "int8", ModelSettings())
    folder = tmp_path_factory.mktemp("triton")
    ports = [str(free_port()) for _ in range(3)]
    log = folder / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [python, SERVER, DEFAULT_MODEL, files.onnx, folder / "workspace", *ports],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_for_model(process, int(ports[0]), log)
        yield Server(f"127.0.0.1:{ports[1]}", log)
    finally:
        stop(process)


def wait_for_model(process: "subprocess.Popen[bytes]", http_port: int, log: Path) -> None:
    url = f"http://127.0.0.1:{http_port}/v2/models/{DEFAULT_MODEL}/ready"
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        if process.poll() is not None:
            pytest.skip(f"tritonserver cannot run on this machine: {log.read_text()[-500:]}")
        try:
            with urlopen(url, timeout=1):
                return
        except (URLError, OSError):
            time.sleep(0.05)
    pytest.fail(f"tritonserver was not ready within {START_S:.0f} s: {log.read_text()[-2_000:]}")


def stop(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


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


async def test_both_embedders_agree(triton: Server) -> None:
    """A worker on Triton and a searcher without a GPU can serve one index."""
    async with (
        open_embedder(backend="onnx") as local,
        open_embedder(backend="triton", settings=ModelSettings(triton=triton.address)) as remote,
    ):
        here, there = await local.embed_documents(TEXTS), await remote.embed_documents(TEXTS)
        question = "What makes bread rise?"
        assert (here * there).sum(axis=1).min() > 0.98
        assert await local.embed_query(question) @ await remote.embed_query(question) > 0.98


async def test_triton_merges_requests_of_many_callers(triton: Server) -> None:
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


async def test_a_server_that_is_too_slow_is_waited_for(triton: Server) -> None:
    settings = ModelSettings(triton=triton.address, triton_timeout_s=0.001)
    async with open_embedder(backend="triton", settings=settings) as embedder:
        with pytest.raises(TransientError, match="DEADLINE_EXCEEDED"):
            await embedder.embed_documents(["water " * 400] * 8)


async def test_a_model_that_the_server_lacks_is_an_error_for_good(triton: Server) -> None:
    settings = ModelSettings(triton=triton.address)
    spec = replace(model_spec(DEFAULT_MODEL), name="bge-huge")
    async with open_embedder(backend="triton", settings=settings) as known:
        assert isinstance(known, TritonEmbedder)
        unknown = TritonEmbedder(spec, known._client, known._tokenizer, 10.0)
        with pytest.raises(PermanentError, match="bge-huge") as caught:
            await unknown.embed_query("water")
    assert caught.value.type == "model_refused"


async def test_a_server_with_vectors_of_another_size_is_an_error_for_good(triton: Server) -> None:
    settings = ModelSettings(triton=triton.address)
    spec = replace(model_spec(DEFAULT_MODEL), dim=768)
    async with open_embedder(backend="triton", settings=settings) as known:
        assert isinstance(known, TritonEmbedder)
        wider = TritonEmbedder(spec, known._client, known._tokenizer, 10.0)
        with pytest.raises(PermanentError, match="768") as caught:
            await wider.embed_query("water")
    assert caught.value.type == "model_shape"
