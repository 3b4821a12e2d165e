"""Terms: what a person types finds what the document says."""

import pytest

from penstock.retrieve.terms import MAX_TERM_CHARS, STOP_WORDS, terms


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("KLN-12", "the kln-12 must be vented"),
        ("kln 12", "Valve KLN-12."),
        ("x-200", "model X-200, revision B"),
        ("max_wait_ms", "set MAX_WAIT_MS=200"),
        ("3.5", "at 3.5 bar"),
        ("2024-05-01", "(signed 2024-05-01)"),
        ("cafe", "Café"),
        ("naïve", "naive"),
        ("turbines", "a turbine's blade"),
        ("Müller", "MULLER"),
        ("flow/rate", "rate of flow"),
        ("東京", "東京都"),
        ("ﬁlter", "filters"),
    ],
)
def test_a_query_finds_the_text(query: str, text: str) -> None:
    assert set(terms(query)) <= set(terms(text))
    assert terms(query)


def test_an_identifier_is_found_by_its_exact_name_first() -> None:
    assert terms("KLN-12") == ["kln-12", "kln", "12"]
    assert terms("state-of-the-art") == ["state", "art"]


def test_stop_words_and_punctuation_are_no_terms() -> None:
    assert terms(" ".join(STOP_WORDS) + " ... — !?") == []
    assert terms("") == []


def test_repeats_are_kept_in_order() -> None:
    assert terms("pump valve pumps") == ["pump", "valv", "pump"]


def test_an_endless_word_is_cut() -> None:
    assert terms("z" * 10_000) == ["z" * MAX_TERM_CHARS]
