"""Filters refuse by name, ranks fuse predictably, texts come back, events stay small."""

import json
from typing import Any

import pytest

from penstock.common.events import Passage, PassageRetrieved, QuestionPlanned, TextSpan
from penstock.common.failures import PermanentError
from penstock.retrieve.filters import Parameters, conditions, parse
from penstock.retrieve.fusion import fuse
from penstock.retrieve.lexical import query_terms
from penstock.retrieve.requests import MAX_EVENT, fitting, search_request, searches_of
from penstock.retrieve.text import Piece, rebuilt

# ---------------------------------------------------------------- filters


@pytest.mark.parametrize(
    ("raw", "names"),
    [
        ({"year": None}, "filter.year must be"),
        ({"year": [1]}, "filter.year must be"),
        ({"year": {}}, "in, gt, gte, lt, lte"),
        ({"year": {"ne": 1}}, "'ne'"),
        ({"year": {"in": []}}, "filter.year.in"),
        ({"year": {"in": [{}]}}, "filter.year.in"),
        ({"year": {"in": list(range(101))}}, "100"),
        ({"year": {"gt": True}}, "filter.year.gt"),
        ({"year": {"gt": float("nan")}}, "filter.year.gt"),
        ({"year": 10**5000}, "2^63".replace("^", r"\^")),
        ({"year": "x" * 1001}, "1000"),
        ({"": 1}, "1 to 200"),
        ({"a\0": 1}, "NUL"),
        ({f"f{i}": 1 for i in range(17)}, "16"),
    ],
)
def test_a_filter_that_cannot_be_meant_is_refused_by_name(raw: dict[str, Any], names: str) -> None:
    with pytest.raises(PermanentError, match=names.replace(".", r"\.")) as refused:
        parse(raw)
    assert refused.value.type == "invalid_filter"


def test_nothing_a_caller_writes_becomes_sql() -> None:
    evil = "x'; DROP TABLE chunk; --"
    parameters = Parameters()
    sql = conditions(parse({evil: evil, "b": {"gt": evil, "lte": 1}}), [evil], parameters)
    assert "DROP" not in sql
    assert sum("DROP" in json.dumps(value) for value in parameters.values) == 3


def test_equalities_narrow_by_containment_and_ranges_do_not() -> None:
    narrowing = parse({"a": 1, "b": {"in": ["x", "y"]}, "c": {"gt": 3}}).narrowing()
    assert narrowing is not None
    assert json.loads(narrowing[0]) == {"a": 1, "b": "x"}
    assert len(narrowing) == 2 * 4, "a value or a list that holds it, of each"
    assert parse({"c": {"gt": 3}}).narrowing() is None
    assert parse({}).narrowing() is None


def test_a_filter_of_many_values_narrows_by_some_of_them_and_stays_small() -> None:
    values = list(range(100))
    assert parse({"a": {"in": values}}).narrowing() is None
    narrowing = parse({"a": {"in": values}, "b": 1}).narrowing()
    assert narrowing is not None
    assert [json.loads(form) for form in narrowing] == [{"b": 1}, {"b": [1]}]


# ---------------------------------------------------------------- fusion


def test_what_both_legs_find_comes_before_what_one_finds() -> None:
    fused = fuse([("dense", [1, 2, 3]), ("lexical", [9, 2, 8])])
    assert fused[0].chunk == 2
    assert (fused[0].dense_rank, fused[0].lexical_rank) == (2, 2)
    by_chunk = {candidate.chunk: candidate for candidate in fused}
    assert (by_chunk[9].dense_rank, by_chunk[9].lexical_rank) == (None, 1)
    assert [c.score for c in fused] == sorted((c.score for c in fused), reverse=True)


def test_one_leg_alone_keeps_its_order() -> None:
    assert [c.chunk for c in fuse([("lexical", [5, 3, 4])])] == [5, 3, 4]
    assert fuse([]) == []


def test_several_texts_keep_the_best_rank_of_each_leg() -> None:
    fused = fuse([("dense", [1, 2]), ("dense", [2, 3])])
    assert [c.chunk for c in fused] == [2, 1, 3]
    assert fused[0].dense_rank == 1


# ---------------------------------------------------------------- lexical


def test_question_words_do_not_search() -> None:
    assert query_terms("What did Kepler measure?") == query_terms("Kepler measure")


def test_a_question_of_nothing_but_question_words_searches_by_them() -> None:
    assert query_terms("Who?") == ["who"]


# ---------------------------------------------------------------- text


def test_every_chunk_stands_at_its_span() -> None:
    pieces = [Piece(7, "second"), Piece(0, "first"), Piece(20, "third")]
    text = rebuilt(pieces)
    assert text == "first\n\nsecond\n\n\n\n\n\n\nthird"
    assert all(text[p.start : p.start + len(p.text)] == p.text for p in pieces)


def test_overlapping_chunks_are_not_doubled() -> None:
    assert rebuilt([Piece(0, "abcdef"), Piece(3, "defghi"), Piece(4, "ef")]) == "abcdefghi"
    assert rebuilt([]) == ""


# ---------------------------------------------------------------- what comes in and goes out


def test_searches_default_to_the_question_and_repeat_nothing() -> None:
    assert searches_of(QuestionPlanned(question="q", searches=())) == ("q",)
    assert searches_of(QuestionPlanned(question="q", searches=("a", "b", "a"))) == ("a", "b")


def test_a_plan_out_of_bounds_is_refused() -> None:
    with pytest.raises(PermanentError, match="8 at most"):
        searches_of(QuestionPlanned(question="q", searches=tuple("abcdefghi")))
    with pytest.raises(PermanentError, match="4000"):
        searches_of(QuestionPlanned(question="q", searches=("x" * 4001,)))


def test_a_body_that_is_no_json_is_refused() -> None:
    with pytest.raises(PermanentError, match="the body"):
        search_request(b"{")


def passage(rank: int, text: str) -> Passage:
    return Passage(
        chunk_id=str(rank), document_id="d", version=1, text=text,
        span=TextSpan(start=0, end=len(text)), score=1 / rank, rank=rank,
    )  # fmt: skip


def test_an_event_carries_the_best_passages_that_fit() -> None:
    passages = tuple(passage(rank, "ü" * 10_000) for rank in range(1, 21))
    event = PassageRetrieved(question="q", passages=passages)
    fitted = fitting(event)
    assert 0 < len(fitted.passages) < 20
    assert fitted.passages == passages[: len(fitted.passages)]
    assert len(fitted.model_dump_json().encode()) <= MAX_EVENT
    more = event.model_copy(update={"passages": passages[: len(fitted.passages) + 1]})
    assert len(more.model_dump_json().encode()) > MAX_EVENT
    small = PassageRetrieved(question="q", passages=passages[:2])
    assert fitting(small) == small
