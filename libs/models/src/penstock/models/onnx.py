"""ONNX Runtime in this process.

Each run of the session uses one thread, and as many runs go on at once as there are cores: no
barrier between the cores inside a layer, and measured at least as fast as one run on all of them
(see `bench/embedding.py`). ONNX Runtime releases the GIL while it runs.
"""

import asyncio
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime
import structlog

from penstock.models.batching import pack, padded, restore, shared_budget
from penstock.models.cache import ModelFiles, model_files
from penstock.models.pooling import pool
from penstock.models.ports import Vectors
from penstock.models.registry import ModelSpec
from penstock.models.settings import ModelSettings
from penstock.models.tokens import Encoded, Tokenizer

log = structlog.get_logger()


def load_session(files: ModelFiles) -> onnxruntime.InferenceSession:
    """A session whose runs take one thread each."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        str(files.onnx), options, providers=["CPUExecutionProvider"]
    )


def usable_cores() -> int:
    """Cores that this process may use, where the system tells; else all of them."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class OnnxEmbedder:
    """The `Embedder` port on this machine's cores."""

    def __init__(
        self,
        spec: ModelSpec,
        output: str,
        session: onnxruntime.InferenceSession,
        tokenizer: Tokenizer,
        *,
        threads: int,
        token_budget: int,
    ) -> None:
        self._spec = spec
        self._output = output
        self._session = session
        self._inputs = {given.name for given in session.get_inputs()}
        self._tokenizer = tokenizer
        self._threads = threads
        self._budget = token_budget
        self._documents = ThreadPoolExecutor(threads, "embed-documents")
        # Threads of their own: a question takes its share of the cores at once instead of
        # waiting until the documents before it are through.
        self._queries = ThreadPoolExecutor(threads, "embed-query")

    @classmethod
    async def open(cls, spec: ModelSpec, settings: ModelSettings) -> "OnnxEmbedder":
        def load() -> "OnnxEmbedder":
            precision = settings.embed_precision
            files = model_files(spec, precision, settings)
            return cls(
                spec,
                spec.jars[precision].output,
                load_session(files),
                Tokenizer(files.tokenizer, spec),
                threads=settings.embed_threads or usable_cores(),
                token_budget=settings.embed_token_budget,
            )

        return await asyncio.to_thread(load)

    @property
    def model(self) -> str:
        return self._spec.name

    @property
    def dim(self) -> int:
        return self._spec.dim

    @property
    def max_tokens(self) -> int:
        return self._spec.max_tokens

    async def embed_documents(self, texts: Sequence[str]) -> Vectors:
        loop = asyncio.get_running_loop()
        encoded: Encoded = await loop.run_in_executor(
            self._documents, self._tokenizer.encode, texts
        )
        if encoded.truncated:
            log.warning("texts_truncated", model=self.model, truncated=encoded.truncated)
        lengths = [len(ids) for ids in encoded.ids]
        batches = pack(lengths, shared_budget(lengths, self._budget, self._threads))
        parts = await asyncio.gather(
            *(
                loop.run_in_executor(self._documents, self._run, [encoded.ids[i] for i in batch])
                for batch in batches
            )
        )
        return restore(zip(batches, parts, strict=True), len(texts), self.dim)

    async def embed_query(self, text: str) -> Vectors:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._queries, self._embed_one, text)

    async def close(self) -> None:
        for pool_ in (self._documents, self._queries):
            await asyncio.to_thread(pool_.shutdown, wait=True, cancel_futures=True)

    def _embed_one(self, text: str) -> Vectors:
        encoded = self._tokenizer.encode([self._spec.query_prefix + text])
        vector: Vectors = self._run(encoded.ids)[0]
        return vector

    def _run(self, rows: Sequence[Sequence[int]]) -> Vectors:
        ids, mask = padded(rows, max(map(len, rows)))
        given = {
            "input_ids": ids,
            "attention_mask": mask,
            "token_type_ids": np.zeros_like(ids),
        }
        states = self._session.run(
            [self._output], {name: value for name, value in given.items() if name in self._inputs}
        )[0]
        return pool(states, mask, self._spec.pooling)
