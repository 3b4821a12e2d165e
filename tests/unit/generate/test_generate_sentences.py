"""Sentences are what a person would quote, and exact slices of the passage."""

import pytest

from penstock.generate.sentences import split_sentences


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "Dr. Ilse Brandt leads it. The budget is 1.5 million, approx. 3 % more.",
            ["Dr. Ilse Brandt leads it.", "The budget is 1.5 million, approx. 3 % more."],
        ),
        (
            "Model: A4 | Price: 40 EUR\nModel: B2 | Price: 9. Free from 2 pieces",
            ["Model: A4 | Price: 40 EUR", "Model: B2 | Price: 9. Free from 2 pieces"],
        ),
        (
            "Bring along:\n- a lamp\n- two ropes. Not three\n1. Open the valve.\n2. Wait.",
            ["Bring along:", "- a lamp", "- two ropes.", "Not three", "1. Open the valve.", "2. Wait."],
        ),
        (
            "A line that was wrapped by whoever wrote it, in the middle of its\nsentence. Next.",
            ["A line that was wrapped by whoever wrote it, in the middle of its\nsentence.", "Next."],
        ),
        ("It rained ... and went on. J. Doe came.", ["It rained ... and went on.", "J. Doe came."]),
        ("He asked why? Nobody knew!", ["He asked why?", "Nobody knew!"]),
        ("| Item | Fee |\n|---|---|\n| Key | 5 EUR |", ["| Item | Fee |", "| Key | 5 EUR |"]),
        (" \n\n", []),
    ],
)  # fmt: skip
def test_a_quote_is_a_whole_statement(text: str, expected: list[str]) -> None:
    """Abbreviations, wrapped lines, list items and table rows are cut where a person would."""
    assert expected == [sentence.text for sentence in split_sentences(text)]


def test_every_sentence_lies_where_it_says() -> None:
    """A citation opens the document at exactly the quoted characters."""
    text = "  # Öffnung\n\nDie Halle öffnet um 8 Uhr.  Sie schließt um 17 Uhr.\n\nA | B\n\tC\n"
    sentences = split_sentences(text)
    assert [s.text for s in sentences] == [text[s.start : s.end] for s in sentences]
    assert len(sentences) >= 4


def test_a_heading_is_not_offered_as_an_answer() -> None:
    """Nobody is answered with the bare heading above the answer."""
    marks = {
        s.text: s.heading for s in split_sentences("Return policy\nGoods come back in 9 days.")
    }
    assert marks == {"Return policy": True, "Goods come back in 9 days.": False}
