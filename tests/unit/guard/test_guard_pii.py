"""What is believed of the recognisers, without loading any."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from penstock.guard.detection import Context, Hit
from penstock.guard.pii import Kind, PiiDetector, strongest, weighed

NUMBER = Kind("NUMBER", re.compile(r"\d{9}"), ("passport",))


@dataclass
class NineDigits:
    """A recogniser of its own kind: nine digits, which alone say little."""

    kind: Kind = NUMBER
    asked: list[str] = field(default_factory=list)

    def find(self, text: str) -> Sequence[Hit]:
        self.asked.append(text)
        return [Hit("NUMBER", 0.05, *match.span()) for match in re.finditer(r"\d{9}", text)]


def test_a_weak_shape_counts_only_beside_a_word_that_explains_it() -> None:
    detector = PiiDetector([NineDigits()])
    context = Context("document")
    assert detector.scan("Part 912803456 is in stock.", context) == []
    (hit,) = detector.scan("Passport no. 912803456", context)
    assert hit.score == 0.4


def test_text_without_the_shape_never_reaches_a_recogniser() -> None:
    recogniser = NineDigits()
    detector = PiiDetector([recogniser])
    detector.scan("No number at all, in 12 words or so.", Context("document"))
    assert recogniser.asked == []


def test_a_word_far_away_or_behind_says_nothing() -> None:
    hit = Hit("NUMBER", 0.5, 100, 109)
    assert weighed(hit, NUMBER, "passport" + "x" * 92 + "912803456").score == 0.5
    assert weighed(hit, NUMBER, "x" * 100 + "912803456 passport").score == 0.5


def test_of_overlapping_findings_the_better_stays() -> None:
    card, phone, mail = Hit("CARD", 1.0, 5, 24), Hit("PHONE", 0.75, 5, 17), Hit("MAIL", 1.0, 30, 40)
    assert strongest([phone, mail, card]) == [card, mail]
