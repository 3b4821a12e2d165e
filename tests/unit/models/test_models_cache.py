"""Model files are fetched once, checked, and used without a network afterwards."""

import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from penstock.common.events import EMBEDDING_MODELS
from penstock.common.failures import PermanentError, TransientError
from penstock.models import ModelSettings, fetch, model_spec
from penstock.models.cache import model_files
from penstock.models.registry import MODELS, Jar, ModelSpec

NOWHERE = "http://127.0.0.1:9"


def jar_bytes(jar: Jar) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as content:
        content.writestr(jar.onnx, b"graph")
        content.writestr(jar.tokenizer, b"{}")
        content.writestr("README", b"not kept")
    return buffer.getvalue()


class Repository(ThreadingHTTPServer):
    """A Maven repository with one jar, counting what it is asked for."""

    def __init__(self, path: str, content: bytes) -> None:
        self.path, self.content = path, content
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), Answer)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answer(BaseHTTPRequestHandler):
    server: Repository

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        found = self.path == f"/{self.server.path}"
        body = self.server.content if found else b"no such file"
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Quiet."""


JAR = model_spec("bge-small-en-v1.5").jars["int8"]
CONTENT = jar_bytes(JAR)


@pytest.fixture
def spec() -> ModelSpec:
    """The default model, with a small jar pinned in place of the real one."""
    pinned = replace(JAR, sha256=hashlib.sha256(CONTENT).hexdigest())
    return replace(model_spec("bge-small-en-v1.5"), jars={"int8": pinned})


@pytest.fixture
def repository() -> Iterator[Repository]:
    with Repository(JAR.path, CONTENT) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_files_are_fetched_once_and_then_used_offline(
    tmp_path: Path, spec: ModelSpec, repository: Repository
) -> None:
    settings = ModelSettings(models=tmp_path / "models", maven=repository.url)
    files = model_files(spec, "int8", settings)
    assert files.onnx.read_bytes() == b"graph"
    assert files.tokenizer.read_bytes() == b"{}"

    offline = ModelSettings(models=tmp_path / "models", maven=NOWHERE)
    assert model_files(spec, "int8", offline) == files
    assert len(repository.asked) == 1


def test_starting_at_once_fetches_once(
    tmp_path: Path, spec: ModelSpec, repository: Repository
) -> None:
    settings = ModelSettings(models=tmp_path, maven=repository.url)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: model_files(spec, "int8", settings), range(4)))
    assert len(set(found)) == 1
    assert len(repository.asked) == 1


def test_another_file_than_the_pinned_one_is_refused_and_not_kept(
    tmp_path: Path, spec: ModelSpec, repository: Repository
) -> None:
    repository.content = CONTENT + b"tampered"
    settings = ModelSettings(models=tmp_path, maven=repository.url)
    with pytest.raises(PermanentError, match="expected") as caught:
        model_files(spec, "int8", settings)
    assert caught.value.type == "model_hash"
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


def test_what_a_killed_process_left_does_not_stand_in_the_way(
    tmp_path: Path, spec: ModelSpec, repository: Repository
) -> None:
    settings = ModelSettings(models=tmp_path, maven=repository.url)
    folder = model_files(spec, "int8", settings).onnx.parent
    folder.rename(folder.with_name(f".{folder.name}.fetch"))
    assert model_files(spec, "int8", settings).onnx.is_file()


def test_a_machine_without_network_and_cache_says_what_to_do(
    tmp_path: Path, spec: ModelSpec
) -> None:
    with pytest.raises(TransientError, match="PENSTOCK_MODELS"):
        model_files(spec, "int8", ModelSettings(models=tmp_path, maven=NOWHERE))


def test_a_repository_without_the_jar_is_named(
    tmp_path: Path, spec: ModelSpec, repository: Repository
) -> None:
    settings = ModelSettings(models=tmp_path, maven=f"{repository.url}/elsewhere")
    with pytest.raises(PermanentError, match="answered 404"):
        model_files(spec, "int8", settings)


def test_progress_counts_up_to_the_size(
    tmp_path: Path, spec: ModelSpec, repository: Repository
) -> None:
    seen: list[tuple[int, int | None]] = []
    settings = ModelSettings(models=tmp_path, maven=repository.url)
    model_files(spec, "int8", settings, lambda done, size: seen.append((done, size)))
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_an_unknown_model_is_answered_with_the_known_ones() -> None:
    with pytest.raises(PermanentError, match=r"all-minilm-l6-v2, bge-small-en-v1\.5"):
        model_spec("bge-huge")


def test_every_jar_is_pinned() -> None:
    pins = [jar.sha256 for spec in MODELS.values() for jar in spec.jars.values()]
    assert all(len(pin) == 64 for pin in pins)
    assert len(set(pins)) == len(pins)


def test_fetching_ahead_names_what_is_wrong_and_ends_with_an_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert fetch.main(["bge-huge"]) == 1
    assert "choose one of: all-minilm-l6-v2" in capsys.readouterr().err


def test_a_collection_may_name_exactly_the_models_there_are() -> None:
    assert set(EMBEDDING_MODELS) == set(MODELS)
