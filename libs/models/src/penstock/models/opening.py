"""Open the embedder that the settings ask for."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from penstock.models.ports import Embedder
from penstock.models.registry import DEFAULT_MODEL, model_spec
from penstock.models.settings import ModelSettings


@asynccontextmanager
async def open_embedder(
    model: str = DEFAULT_MODEL,
    *,
    backend: Literal["onnx", "triton"] | None = None,
    settings: ModelSettings | None = None,
) -> AsyncIterator[Embedder]:
    """An embedder for `model`, closed on the way out; `backend` overrides the settings.

    Fetches the model's files where they are missing. Raises `PermanentError` for an unknown model
    and as `penstock.models.cache.model_files` does.
    """
    settings = settings or ModelSettings()
    spec = model_spec(model)
    embedder: Embedder
    # Imported here: neither runtime is loaded into a process that uses the other, or none.
    if (backend or settings.embed_backend) == "triton":
        from penstock.models.triton import TritonEmbedder

        embedder = await TritonEmbedder.open(spec, settings)
    else:
        from penstock.models.onnx import OnnxEmbedder

        embedder = await OnnxEmbedder.open(spec, settings)
    try:
        yield embedder
    finally:
        await embedder.close()
