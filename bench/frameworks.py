"""The same chunks through other frameworks, each in an environment of its own.

    model = await prepare()                                # environments and checkpoint, once
    write_chunks(path, chunks)
    measured = await run_peer("langchain", path, server.admin_dsn, model)

What is alike: the chunks (cut before), the model (bge-small-en-v1.5), the Postgres server, the
number of threads. What is theirs: everything from a chunk to a searchable row, at the defaults of
their own classes; none of them builds a vector index by default. Timed is the one call that their
documentation shows for indexing. Imports, loading the model and opening the store are not timed.

The environments lie in ~/.cache/penstock/bench/peers, by the content of their requirements. torch
brings CUDA libraries that nothing here uses, about 5.6 GB; uv links them into all three.
"""

import asyncio
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import numpy as np

from penstock.models import DEFAULT_MODEL, ModelSettings, model_spec, open_embedder
from penstock.models.cache import model_files
from penstock.models.onnx import usable_cores

NAMES: Final = ("llamaindex", "langchain", "haystack")
CACHE: Final = Path("~/.cache/penstock/bench/peers").expanduser()
HERE: Final = Path(__file__).parent / "peers"
ALIKE: Final = 0.9999
"""Cosine at which two vectors of the same text come from the same model."""
PROBES: Final = ("A driver calls this routine at IRQL = DISPATCH_LEVEL.", "short", "long " * 600)


@dataclass(frozen=True, slots=True)
class PeerChunk:
    id: str
    document: str
    text: str
    """What is embedded, title and headings in front if ours are embedded with them."""
    title: str
    metadata: Mapping[str, Any]
    """Stored, not embedded."""


@dataclass(frozen=True, slots=True)
class Measured:
    framework: str
    versions: dict[str, str]
    documents: int
    chunks: int
    seconds: float
    docs_per_s: float
    cpu_s: float
    """Of the framework's process; the server's is not counted."""
    max_rss_mb: float


class PeerError(Exception):
    """A framework could not be installed, did not run, or stored something else than asked."""


def write_chunks(path: Path, chunks: Iterable[PeerChunk]) -> None:
    with path.open("w") as file:
        file.writelines(json.dumps(asdict(chunk)) + "\n" for chunk in chunks)


async def prepare() -> Path:
    """Make what is missing of the environments and the checkpoint; the checkpoint's folder."""
    for name in NAMES:
        await _environment(name)
    spec = model_spec(DEFAULT_MODEL)
    files = await asyncio.to_thread(model_files, spec, "fp32", ModelSettings())
    folder = CACHE / files.onnx.parent.name
    if not folder.exists():
        scratch = folder.with_suffix(".new")
        shutil.rmtree(scratch, ignore_errors=True)
        python = await _environment("checkpoint")
        await _run(python, HERE / "checkpoint.py", files.onnx, files.tokenizer, scratch)
        await _same_model(scratch)
        scratch.rename(folder)
    return folder


async def run_peer(name: str, chunks: Path, dsn: str, model: Path) -> Measured:
    """Index `chunks` into a database of its own on the server of `dsn`, whose user may create it.

    Raises `PeerError` unless there is a vector for every chunk at the end.
    """
    database = f"peer_{name}"
    admin = await asyncpg.connect(dsn)
    try:
        await admin.execute(f"DROP DATABASE IF EXISTS {database}")
        await admin.execute(f"CREATE DATABASE {database}")
        own = urlunsplit(urlsplit(dsn)._replace(path=f"/{database}"))
        python = await _environment(name)
        said = await _run(python, HERE / f"run_{name}.py", chunks, own, model)
        measured = Measured(**json.loads(said.splitlines()[-1]))
        stored = await _vectors(own)
        if stored != measured.chunks:
            raise PeerError(f"{name} stored {stored} vectors for {measured.chunks} chunks")
        await admin.execute(f"DROP DATABASE {database}")
    finally:
        await admin.close()
    return measured


async def _vectors(dsn: str) -> int:
    """Rows with a vector, whatever a framework calls its table."""
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch(
            """
            SELECT format('%I.%I', table_schema, table_name) AS source, quote_ident(column_name) AS vector
              FROM information_schema.columns WHERE udt_name = 'vector'
            """
        )
        counts = [
            await connection.fetchval(f"SELECT count({row['vector']}) FROM {row['source']}")
            for row in rows
        ]
    finally:
        await connection.close()
    return sum(counts)


async def _same_model(folder: Path) -> None:
    """Raises `PeerError` unless the checkpoint answers as the ONNX file does that it is made of."""
    said = await _run(await _environment("haystack"), HERE / "probe.py", folder, *PROBES)
    theirs = np.array(json.loads(said.splitlines()[-1]), dtype=np.float32)
    async with open_embedder(settings=ModelSettings(embed_precision="fp32")) as embedder:
        ours = await embedder.embed_documents(list(PROBES))
    cosines = (theirs * ours).sum(axis=1) / np.linalg.norm(theirs, axis=1)
    if cosines.min() < ALIKE:
        raise PeerError(f"the checkpoint is another model: cosines {cosines.tolist()}")


async def _environment(name: str) -> Path:
    """The Python of an environment with exactly `<name>.txt` in it."""
    requirements = HERE / f"{name}.txt"
    folder = CACHE / f"{name}-{hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]}"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        uv = os.environ.get("UV") or shutil.which("uv")
        if uv is None:
            raise PeerError("uv is not on the path")
        print(f"making the environment of {name} in {folder}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        await _run(uv, "venv", "--quiet", "--python", sys.executable, folder)
        await _run(uv, "pip", "install", "--quiet", "--python", python, "-r", requirements)
        (folder / "complete").touch()
    return python


async def _run(*argv: str | Path) -> str:
    """The standard output of a program; on failure its error output becomes a `PeerError`."""
    threads = str(usable_cores())
    process = await asyncio.create_subprocess_exec(
        *map(str, argv),
        env={k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH")}
        | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        | {"HF_HUB_OFFLINE": "1", "HAYSTACK_TELEMETRY_ENABLED": "False"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        said, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode != 0:
        raise PeerError(f"{Path(argv[1]).name} ended with {process.returncode}:\n{errors.decode()}")
    return said.decode()
