"""A model's own tokenizer: counts and offsets for chunking, ids for embedding."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import tokenizers

from penstock.models.cache import model_files
from penstock.models.registry import ModelSpec, model_spec
from penstock.models.settings import ModelSettings


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of texts, special tokens included, cut to the model's window."""

    ids: list[list[int]]
    truncated: int
    """How many texts were longer than the window."""


class Tokenizer:
    """Safe to share between threads; batches run on all cores without the GIL.

    A process that forks after a batch gets a warning from the library and one core in the child:
    fork first, or start workers by spawn or forkserver.
    """

    def __init__(self, file: Path, spec: ModelSpec) -> None:
        self._tokenizer = tokenizers.Tokenizer.from_file(str(file))
        # The files of some models cut and pad to 128 tokens; neither is wanted.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.max_tokens = spec.max_tokens
        self.special_tokens = self._tokenizer.num_special_tokens_to_add(False)
        """How many of the window's tokens a single text leaves to the model itself."""

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, special tokens not counted, nothing cut."""
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [len(encoding) for encoding in encodings]

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Half-open character range in `text` of every token, in order, nothing cut."""
        return self._tokenizer.encode(text, add_special_tokens=False).offsets

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Ids for the model; a text longer than the window loses its end."""
        ids = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]
        limit = self.max_tokens
        truncated = 0
        for row, values in enumerate(ids):
            if len(values) > limit:
                ids[row] = [*values[: limit - 1], values[-1]]  # the closing token stays
                truncated += 1
        return Encoded(ids, truncated)


@lru_cache(maxsize=8)
def tokenizer(model: str) -> Tokenizer:
    """The tokenizer of a model; one instance per process and model.

    Blocks, and fetches the model's files where they are missing: call it at start or in a thread.
    Raises as `model_files` does, and `PermanentError` for an unknown model.
    """
    settings = ModelSettings()
    spec = model_spec(model)
    return Tokenizer(model_files(spec, settings.embed_precision, settings).tokenizer, spec)
