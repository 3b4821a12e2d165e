"""What runs a model: embedders on ONNX Runtime in process or on Triton, and their tokenizers."""

from penstock.models.opening import open_embedder
from penstock.models.ports import Embedder, Vectors
from penstock.models.registry import DEFAULT_MODEL, MODELS, ModelSpec, model_spec
from penstock.models.settings import ModelSettings
from penstock.models.text import embedded_text
from penstock.models.tokens import Tokenizer, tokenizer

__all__ = [
    "DEFAULT_MODEL",
    "MODELS",
    "Embedder",
    "ModelSettings",
    "ModelSpec",
    "Tokenizer",
    "Vectors",
    "embedded_text",
    "model_spec",
    "open_embedder",
    "tokenizer",
]
