"""Counts and offsets are those of the model's own tokenizer; only embedding cuts a text."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer as Library
from tokenizers import models, normalizers, pre_tokenizers, processors

from penstock.models import Tokenizer, model_spec

SPEC = model_spec("all-minilm-l6-v2")


@pytest.fixture
def loaded(tmp_path: Path) -> Tokenizer:
    """A small WordPiece tokenizer that, like MiniLM's file, asks to cut and pad to 128."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "water", "flow", "##s", "naive"]
    library = Library(models.WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    library.normalizer = normalizers.BertNormalizer()
    library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    library.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    library.enable_truncation(128)
    library.enable_padding(length=128)
    file = tmp_path / "tokenizer.json"
    library.save(str(file))
    return Tokenizer(file, SPEC)


def test_counts_leave_special_tokens_out_and_cut_nothing(loaded: Tokenizer) -> None:
    assert loaded.count(["water flows", "water " * 1_000, ""]) == [3, 1_000, 0]


def test_offsets_are_characters_of_the_text_as_given(loaded: Tokenizer) -> None:
    text = "Naïve ☃ FLOWS"
    assert [text[a:b] for a, b in loaded.offsets(text)] == ["Naïve", "☃", "FLOW", "S"]


def test_ids_carry_the_special_tokens(loaded: Tokenizer) -> None:
    encoded = loaded.encode(["water flows"])
    assert encoded.ids == [[2, 4, 5, 6, 3]]
    assert encoded.truncated == 0
    assert loaded.special_tokens == 2


def test_a_text_beyond_the_window_loses_its_end_and_is_counted(loaded: Tokenizer) -> None:
    encoded = loaded.encode(["water " * 1_000, "water"])
    assert len(encoded.ids[0]) == SPEC.max_tokens
    assert encoded.ids[0][-1] == 3
    assert encoded.truncated == 1
