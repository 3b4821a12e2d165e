"""Triton Inference Server over gRPC.

Texts are tokenised here; the server runs the same graph with the same tensor names. Sequence
lengths come in a few sizes only, because Triton merges requests of equal shape alone.
"""

import asyncio
from collections.abc import Sequence

import numpy as np
import structlog
from tritonclient.grpc import InferInput, InferRequestedOutput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from penstock.common.failures import PermanentError, TransientError
from penstock.common.telemetry import current_traceparent
from penstock.models.batching import pack_buckets, padded, restore
from penstock.models.cache import model_files
from penstock.models.pooling import pool
from penstock.models.ports import Vectors
from penstock.models.registry import ModelSpec
from penstock.models.settings import ModelSettings
from penstock.models.tokens import Tokenizer

log = structlog.get_logger()

BUCKETS = (64, 128, 256, 512)
MAX_ROWS = 64
"""The server's max_batch_size."""
REQUEST_TOKENS = 8_192
"""Padded tokens of one request: its answer, a vector per token, is 13 MB at 384 dimensions."""
REQUESTS_AT_ONCE = 8
"""Of all callers together; bounds memory, and keeps the server's queue short for questions."""
QUESTION_S = 10.0
"""Longest wait for a question's vector: whoever asked is to hear what is away before giving up."""

_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_AWAY = {
    f"StatusCode.{name}"
    for name in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "CANCELLED")
}
_REFUSED = {f"StatusCode.{name}" for name in ("INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED")}


class TritonEmbedder:
    """The `Embedder` port on a Triton server."""

    def __init__(
        self, spec: ModelSpec, client: InferenceServerClient, tokenizer: Tokenizer, timeout_s: float
    ) -> None:
        self._spec = spec
        self._client = client
        self._tokenizer = tokenizer
        self._timeout_s = timeout_s
        self._bulk = asyncio.Semaphore(REQUESTS_AT_ONCE)
        # int8 is slower on a GPU, so what the server runs is the fp32 graph.
        self._output = spec.jars["fp32"].output
        below = (size for size in BUCKETS if size < spec.max_tokens)
        self._buckets = (*below, spec.max_tokens)

    @classmethod
    async def open(cls, spec: ModelSpec, settings: ModelSettings) -> "TritonEmbedder":
        """Does not need the server yet: one that is away shows at the first request."""
        files = await asyncio.to_thread(model_files, spec, settings.embed_precision, settings)
        loaded = await asyncio.to_thread(Tokenizer, files.tokenizer, spec)
        client = InferenceServerClient(settings.triton)
        return cls(spec, client, loaded, settings.triton_timeout_s)

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
        encoded = await asyncio.to_thread(self._tokenizer.encode, texts)
        if encoded.truncated:
            log.warning("texts_truncated", model=self.model, truncated=encoded.truncated)
        batches = pack_buckets(
            [len(ids) for ids in encoded.ids], self._buckets, rows=MAX_ROWS, tokens=REQUEST_TOKENS
        )
        parts = await asyncio.gather(
            *(self._infer_bulk([encoded.ids[i] for i in batch], width) for width, batch in batches)
        )
        indices = [batch for _, batch in batches]
        return restore(zip(indices, parts, strict=True), len(texts), self.dim)

    async def embed_query(self, text: str) -> Vectors:
        encoded = await asyncio.to_thread(self._tokenizer.encode, [self._spec.query_prefix + text])
        width = next(size for size in self._buckets if len(encoded.ids[0]) <= size)
        timeout_s = min(self._timeout_s, QUESTION_S)
        vector: Vectors = (await self._infer(encoded.ids, width, timeout_s))[0]
        return vector

    async def close(self) -> None:
        await self._client.close()

    async def _infer_bulk(self, rows: Sequence[Sequence[int]], width: int) -> Vectors:
        async with self._bulk:
            return await self._infer(rows, width, self._timeout_s)

    async def _infer(self, rows: Sequence[Sequence[int]], width: int, timeout_s: float) -> Vectors:
        ids, mask = padded(rows, width)
        inputs = []
        for name, values in zip(_INPUTS, (ids, mask, np.zeros_like(ids)), strict=True):
            tensor = InferInput(name, list(values.shape), "INT64")
            tensor.set_data_from_numpy(values)
            inputs.append(tensor)
        traceparent = current_traceparent()
        try:
            result = await self._client.infer(
                self.model,
                inputs,
                outputs=[InferRequestedOutput(self._output)],
                client_timeout=timeout_s,
                headers={"traceparent": traceparent} if traceparent else None,
            )
        except InferenceServerException as error:
            if (classified := await self._classified(error)) is not None:
                raise classified from error
            raise
        states = result.as_numpy(self._output)
        if states is None or states.shape != (*ids.shape, self.dim):
            shape = None if states is None else states.shape
            raise PermanentError(
                f"Triton's model {self.model} gave {self._output} of shape {shape}, "
                f"expected {(*ids.shape, self.dim)}",
                type="model_shape",
            )
        return await asyncio.to_thread(pool, states, mask, self._spec.pooling)

    async def _classified(
        self, error: InferenceServerException
    ) -> TransientError | PermanentError | None:
        """Away, busy or still loading: later. Refused: never. None: neither."""
        status = error.status() or ""
        message = f"{error.message()} ({status})"
        if status in _AWAY or (status in _REFUSED and await self._loading()):
            return TransientError(f"Triton is away or busy: {message}")
        if status in _REFUSED:
            return PermanentError(
                f"Triton refused model {self.model}: {message}", type="model_refused"
            )
        return None

    async def _loading(self) -> bool:
        """With its default strict readiness a server is ready once all its models are loaded."""
        try:
            ready = await self._client.is_server_ready(client_timeout=self._timeout_s)
        except InferenceServerException:
            return True
        return not ready
