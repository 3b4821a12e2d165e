"""An answer's sentence is held against the passages it cites."""

import pytest

from penstock.guard.detection import Context, Source
from penstock.guard.groundedness import GroundednessDetector, evidence
from penstock.guard.words import sentences, stem

PASSAGE = (
    "The Weir Street turbine delivers 4.2 megawatts since its overhaul in 2019. "
    "It does not run in frost. Maria Lindgren leads the crew of twelve people. "
    "Output rose after the overhaul."
)


def score(claim: str) -> float:
    found = evidence(claim, [PASSAGE])
    assert found is not None
    return found.groundedness


@pytest.mark.parametrize(
    "claim",
    [
        "The Weir Street turbine delivers 4.2 megawatts since its overhaul in 2019.",
        "Since the 2019 overhaul the turbine delivers 4.2 megawatts.",
        "Maria Lindgren leads a crew of 12 people.",
        "It does not run in frost.",
    ],
)
def test_what_the_passage_says_is_carried(claim: str) -> None:
    assert score(claim) == 1


@pytest.mark.parametrize(
    "claim",
    [
        "The Weir Street turbine delivers 5.2 megawatts since its overhaul in 2019.",
        "The crew of twelve people is led by Maria Bergstrom.",
        "The turbine runs in frost.",
        "Output fell after the overhaul.",
    ],
)
def test_a_swapped_number_name_or_sense_is_noticed(claim: str) -> None:
    assert score(claim) < 1


def test_what_has_nothing_to_do_with_the_passage_scores_lowest() -> None:
    assert score("Bananas ripen quickly beside warm radiators.") <= 0.15


def scan(text: str, *sources: Source, abstained: bool = False) -> list[str]:
    hits = GroundednessDetector().scan(text, Context("answer", sources, abstained))
    return [text[hit.start : hit.end] for hit in hits]


def test_only_the_sentence_without_support_is_named() -> None:
    text = "Maria Lindgren leads the crew [1]. Bananas ripen beside warm radiators [1]."
    assert scan(text, Source(PASSAGE, frozenset({1}))) == [
        "Bananas ripen beside warm radiators [1]."
    ]


def test_a_marker_binds_a_sentence_to_its_passage() -> None:
    other = Source("Bananas ripen beside warm radiators.", frozenset({2}))
    mine = Source(PASSAGE, frozenset({1}))
    assert scan("Bananas ripen beside warm radiators [2].", mine, other) == []
    assert scan("Bananas ripen beside warm radiators [1].", mine, other) != []
    assert scan("Bananas ripen beside warm radiators.", mine, other) == []


def test_an_abstention_and_a_short_reply_claim_nothing() -> None:
    assert scan("I don't know: nothing here mentions elephants.", abstained=True) == []
    assert scan("Yes, it does.", Source(PASSAGE)) == []


def test_an_answer_from_nowhere_is_not_grounded() -> None:
    assert scan("Maria Lindgren leads the crew of twelve people.") != []


def test_markers_stay_with_the_sentence_before_them() -> None:
    text = "It runs. [1] It stops.[2] The end"
    assert [text[start:end].strip() for start, end in sentences(text)] == [
        "It runs. [1]", "It stops.[2]", "The end",
    ]  # fmt: skip


def test_inflections_meet_in_one_stem() -> None:
    assert len({stem(word) for word in ("deliver", "delivers", "delivered", "delivering")}) == 1
    assert stem("making") == stem("make")
    assert stem("sea") == "sea"
