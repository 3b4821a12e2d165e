"""Chunks: every one can be cited by its span, and none is cut where a reader would stumble."""

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.common.events import (
    MAX_BATCH_BYTES,
    MAX_BATCH_CHUNKS,
    MAX_EVENT_BYTES,
    Chunk,
    DocumentEmbedded,
    ElementKind,
    Position,
    TextSpan,
)
from penstock.ingest.chunking import batches, chunk, cut_of, sentences
from penstock.ingest.document import DocumentBuilder, Parsed
from penstock.ingest.failures import Unreadable
from penstock.ingest.worker import token_starts


def words(text: str) -> list[int]:
    return [match.start() for match in re.finditer(r"\S+", text)]


def cut(parsed: Parsed, aim: int = 20, most: int = 10_000) -> tuple[Chunk, ...]:
    return chunk(parsed, words, aim=aim, most=most)


LINE = st.text(st.sampled_from("ab .!?|\n\té€😀"), max_size=120)
ELEMENT = st.one_of(
    st.tuples(st.just("heading"), LINE, st.integers(1, 6)),
    st.tuples(st.just("paragraph"), LINE),
    st.tuples(st.just("items"), st.lists(LINE, max_size=5)),
    st.tuples(st.just("code"), LINE),
    st.tuples(st.just("table"), st.lists(st.lists(LINE, max_size=4), max_size=8)),
)


@settings(max_examples=40, deadline=None)
@given(elements=st.lists(ELEMENT, max_size=12), aim=st.integers(2, 40))
def test_chunks_cover_the_text_once_and_equal_it_at_their_spans(
    elements: list[tuple[object, ...]], aim: int
) -> None:
    builder = DocumentBuilder()
    for name, *arguments in elements:
        getattr(builder, str(name))(*arguments)
    parsed = builder.build("test")
    chunks = cut(parsed, aim)
    for one in chunks:
        assert one.text == parsed.text[one.span.start : one.span.end]
        assert one.text.strip()
        assert len(words(one.text)) <= round(aim * 1.16)
    assert [one.ordinal for one in chunks] == list(range(len(chunks)))
    assert all(a.span.end <= b.span.start for a, b in pairwise(chunks))
    assert "".join("".join(c.text for c in chunks).split()) == "".join(parsed.text.split())


def test_a_heading_opens_a_chunk_and_stays_with_what_follows() -> None:
    builder = DocumentBuilder()
    builder.heading("Manual", 1)
    builder.heading("Cooling", 2)
    builder.paragraph("Fill in water.")
    builder.heading("Safety", 2)
    builder.paragraph("Wear gloves.")
    first, second = cut(builder.build("test"))
    assert first.text == "Manual\n\nCooling\n\nFill in water."
    assert first.heading_path == ("Manual", "Cooling")
    assert second.text == "Safety\n\nWear gloves."
    assert second.heading_path == ("Manual", "Safety")


def test_small_sections_join_within_the_section_around_them() -> None:
    builder = DocumentBuilder()
    builder.heading("Pump", 1)
    for name in ("Weight", "Height", "Colour"):
        builder.heading(name, 2)
        builder.paragraph("Small.")
    builder.heading("Valve", 1)
    builder.paragraph("Tight.")
    chunks = cut(builder.build("test"), aim=40)
    assert [(c.heading_path, c.text.split("\n\n")[0]) for c in chunks] == [
        (("Pump",), "Pump"),
        (("Valve",), "Valve"),
    ]
    apart = cut(builder.build("test"), aim=6)
    assert [c.heading_path[-1] for c in apart] == ["Weight", "Height", "Colour", "Valve"]


def test_no_chunk_ends_with_a_heading_that_opens_the_next() -> None:
    builder = DocumentBuilder()
    builder.heading("Pump", 1)
    builder.heading("Weight", 2)
    builder.paragraph("Small.")
    builder.heading("Use", 2)
    builder.paragraph("word " * 21 + "end.")
    assert [c.text.split("\n\n")[0] for c in cut(builder.build("test"))] == ["Pump", "Use"]


def test_a_table_is_cut_between_rows_and_every_row_says_what_it_means() -> None:
    builder = DocumentBuilder()
    rows = [["Model", "Price"], *([f"X-{n}", f"{n} EUR"] for n in range(40))]
    builder.table(rows, header=True)
    chunks = cut(builder.build("test"))
    lines = [line for one in chunks for line in one.text.split("\n")]
    assert lines == [f"Model: X-{n} | Price: {n} EUR" for n in range(40)]
    assert {one.kind for one in chunks} == {ElementKind.TABLE}


def test_a_row_longer_than_the_window_is_cut_and_says_so() -> None:
    builder = DocumentBuilder()
    builder.heading("Prices", 1)
    builder.table([["note", " ".join(["word"] * 50)]], header=False)
    chunks = cut(builder.build("test"))
    assert [c.heading_path[-1] for c in chunks[1:]] == [
        f"(part {n} of 3 of one row)" for n in (1, 2, 3)
    ]


def test_a_sentence_is_not_cut_though_it_goes_a_little_over_the_aim() -> None:
    builder = DocumentBuilder()
    builder.paragraph(f"{'word ' * 21}end. Next one here.")
    assert [len(words(c.text)) for c in cut(builder.build("test"))] == [22, 3]


def test_the_page_of_a_chunk_is_where_it_begins() -> None:
    builder = DocumentBuilder()
    builder.paragraph("One.", 3)
    builder.paragraph("Two.", 4)
    assert [c.page for c in cut(builder.build("test"))] == [3]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("See Fig. 3 by Dr. Who, e.g. here. Next.", ["See Fig. 3 by Dr. Who, e.g. here.", "Next."]),
        ("It costs 3.50 EUR. J. Doe paid.", ["It costs 3.50 EUR.", "J. Doe paid."]),
        ('He said "Go." Then he left.', ['He said "Go."', "Then he left."]),
        ("水が流れる。発電する。", ["水が流れる。", "発電する。"]),
    ],
)
def test_sentences_end_where_a_reader_would_stop(text: str, expected: list[str]) -> None:
    assert [text[a:b] for a, b in sentences(text, 0, len(text))] == expected


def test_too_many_chunks_is_a_failure_that_says_what_to_do() -> None:
    builder = DocumentBuilder()
    builder.paragraph("Some words here. " * 100)
    with pytest.raises(Unreadable, match=r"more than 3 chunks.*in parts") as caught:
        cut(builder.build("test"), aim=10, most=3)
    assert caught.value.type == "too_many_chunks"


def chunks_of(texts: list[str]) -> list[Chunk]:
    span = TextSpan(start=0, end=1)
    return [
        Chunk(ordinal=n, text=text, kind=ElementKind.PARAGRAPH, span=span)
        for n, text in enumerate(texts)
    ]


@settings(max_examples=40, deadline=None)
@given(
    texts=st.lists(
        st.builds(lambda piece, times: piece * times, st.sampled_from(['"', "é", "\n", "word "]),
                  st.integers(1, 4000)),
        min_size=1, max_size=150,
    ),
    dim=st.sampled_from([384, 1024]),
)  # fmt: skip
def test_a_batch_still_fits_an_event_when_it_carries_its_vectors(
    texts: list[str], dim: int
) -> None:
    chunks = chunks_of(texts)
    cut_up = list(batches(chunks, dim))
    assert [one for batch in cut_up for one in batch] == chunks
    for batch in cut_up:
        assert len(batch) <= MAX_BATCH_CHUNKS
    largest = max(cut_up, key=lambda batch: sum(len(c.text) for c in batch))
    event = DocumentEmbedded(
        document="d", collection="c", submission="s", version=1, generation=1, cut="x" * 32, k=0,
        n=1, chunks=largest, model="m", dim=dim, vectors=bytes(2 * dim * len(largest)),
        position=Position(cluster="c", partition=0, offset=0, at=0),
    )  # fmt: skip
    size = len(event.model_dump_json().encode())
    assert size <= MAX_BATCH_BYTES + 2048 < MAX_EVENT_BYTES or len(largest) == 1


def test_the_cut_names_the_list_of_chunks() -> None:
    one, two = chunks_of(["a", "b"])
    assert cut_of([one, two]) == cut_of([one, two])
    assert len({cut_of([one, two]), cut_of([two, one]), cut_of([one])}) == 3


def test_a_long_text_is_tokenised_in_stretches_with_the_same_result() -> None:
    text = "some words\n" * 30_000

    def offsets(part: str) -> list[tuple[int, int]]:
        assert len(part) <= 200_000
        return [match.span() for match in re.finditer(r"\S+", part)]

    assert list(token_starts(offsets, text)) == words(text)
