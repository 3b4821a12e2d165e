"""Cuts and versions: what stays, what is refused, what is announced."""

from typing import Any

import numpy as np
import pytest

from penstock.common.events import Chunk, DocumentEmbedded, ElementKind, Position, TextSpan
from penstock.common.failures import PermanentError
from penstock.retrieve.cuts import Cut, assemble, check, halfvecs, indexed_terms
from penstock.retrieve.versions import CutKey, Fate, Standing, Target, fate, newest

TARGET = Target("acme", "d", 1)


def chunk(text: str, **more: Any) -> Chunk:
    fields = {"ordinal": 0, "text": text, "kind": ElementKind.PARAGRAPH}
    return Chunk(**(fields | {"span": TextSpan(start=0, end=len(text))} | more))


def batch(*chunks: Chunk, **more: Any) -> DocumentEmbedded:
    numbers = np.arange(len(chunks) * 384, dtype="<f2")
    fields: dict[str, Any] = {
        "document": "d",
        "collection": "default",
        "submission": "s",
        "position": Position(cluster="c", partition=0, offset=0, at=0),
        "version": 1,
        "generation": 1,
        "cut": "x",
        "k": 0,
        "n": 1,
        "chunks": chunks,
        "model": "m",
        "dim": 384,
        "vectors": numbers.tobytes(),
    }
    return DocumentEmbedded(**(fields | more))


def cut(*batches: DocumentEmbedded, document: str = "d") -> Cut:
    return assemble(CutKey(Target("acme", document, 1), 1, "x"), batches)


def ids(*batches: DocumentEmbedded, document: str = "d") -> list[str]:
    return [str(c.chunk_id) for c in cut(*batches, document=document).chunks]


def test_batches_in_any_order_make_the_document_in_order() -> None:
    parts = [batch(chunk(f"part {k}"), k=k, n=3) for k in range(3)]
    found = cut(parts[2], parts[0], parts[1])
    assert [c.chunk.text for c in found.chunks] == ["part 0", "part 1", "part 2"]


def test_a_chunk_is_the_same_wherever_it_moves_in_its_document() -> None:
    first = ids(batch(chunk("a"), chunk("b", page=1)))
    assert ids(batch(chunk("b", page=7, ordinal=3), chunk("a"))) == first[::-1]


def test_equal_chunks_of_a_document_are_told_apart() -> None:
    assert len(set(ids(batch(chunk("a"), chunk("a"), chunk("a"))))) == 3


@pytest.mark.parametrize(
    "other",
    [
        batch(chunk("b")),
        batch(chunk("a", heading_path=("x",))),
        batch(chunk("a"), title="t"),
    ],
)
def test_what_changes_vector_or_terms_changes_the_chunk(other: DocumentEmbedded) -> None:
    assert ids(batch(chunk("a"))) != ids(other)


def test_the_same_bytes_in_another_document_are_another_chunk() -> None:
    assert ids(batch(chunk("a"))) != ids(batch(chunk("a")), document="e")


def test_vectors_are_written_as_postgres_reads_them() -> None:
    first, second = halfvecs(batch(chunk("a"), chunk("b")))
    assert first[:4] == b"\x01\x80\x00\x00"
    assert np.frombuffer(first[4:], ">f2").tolist() == list(range(384))
    assert np.frombuffer(second[4:], ">f2").tolist() == list(range(384, 768))


def test_title_and_headings_are_found_too() -> None:
    assert indexed_terms("Manual", chunk("Open it", heading_path=("Valves",))) == [
        "manual",
        "valv",
        "open",
    ]


def test_good_batches_pass_and_bad_ones_are_named() -> None:
    check(batch(chunk("a")))
    with pytest.raises(PermanentError, match="generation: 3") as refused:
        check(batch(chunk("a"), generation=3))
    assert refused.value.type == "unknown_generation"


@pytest.mark.parametrize(
    ("version", "standing", "outcome"),
    [
        (1, Standing(), Fate.ACCEPTED),
        (3, Standing(indexed=2), Fate.ACCEPTED),
        (2, Standing(indexed=2), Fate.REPEATED),
        (1, Standing(indexed=2), Fate.SUPERSEDED),
        (2, Standing(removed=2), Fate.SUPERSEDED),
        (3, Standing(removed=2), Fate.ACCEPTED),
        (1, Standing(indexed=3, removed=2), Fate.SUPERSEDED),
    ],
)
def test_the_version_decides(version: int, standing: Standing, outcome: Fate) -> None:
    assert fate(version, standing) is outcome


def test_of_complete_cuts_the_newest_version_wins_and_of_equals_the_first() -> None:
    keys = [CutKey(TARGET, 1, "a"), CutKey(TARGET, 2, "b"), CutKey(TARGET, 2, "c")]
    assert newest(keys) == {TARGET: keys[1]}
