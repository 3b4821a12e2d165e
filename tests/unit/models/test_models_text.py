"""A chunk is found by its document's title and headings too."""

from penstock.models import embedded_text


def test_title_and_headings_stand_above_the_text() -> None:
    got = embedded_text("Handbook", ["Travel", "By train"], "Book early.")
    assert got == "Handbook > Travel > By train\nBook early."


def test_a_heading_that_repeats_the_title_is_written_once() -> None:
    assert embedded_text("Travel", ["Travel", "By train"], "x") == "Travel > By train\nx"


def test_without_title_and_headings_the_text_is_alone() -> None:
    assert embedded_text(None, [], "Book early.") == "Book early."
    assert embedded_text("  ", [""], "Book early.") == "Book early."


def test_line_breaks_in_headings_do_not_split_the_line() -> None:
    assert embedded_text("A\n  B", [], "x") == "A B\nx"
