"""Prompt injection and jailbreaks: normalise, decode, look for the families of phrases."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from penstock.guard.decode import decoded
from penstock.guard.detection import Context, Hit
from penstock.guard.injection_rules import RULES
from penstock.guard.normalise import Normalised, normalise, unleet, without_gaps
from penstock.guard.phrases import Rule

MIN_SCORE = 0.3
HIDDEN = 0.15
"""Added to the weight of what was found only after undoing a disguise."""
REPEATED = 0.4
"""Share of a rule's weight that counts when its family has been seen already."""

_LEET = re.compile(r"[a-z][013457@$!|][a-z]")
_SPACED = re.compile(r"(?<!\w)(?:\w[ ._*-]{1,3}){6,400}\w(?!\w)")


@dataclass(frozen=True, slots=True)
class _Sighting:
    rule: Rule
    weight: float
    start: int
    end: int


class InjectionDetector:
    """One hit per family; the strongest carries the belief of all of them together.

    Beliefs of different families combine as independent evidence: 1 - (1-a)(1-b)…
    """

    name = "injection"
    version = "1"

    def scan(self, text: str, context: Context) -> list[Hit]:
        sightings = list(self._sightings(text, indirect=context.gate == "document"))
        if not sightings:
            return []
        best: dict[str, _Sighting] = {}
        doubt = 1.0
        seen: set[str] = set()
        for sighting in sorted(sightings, key=lambda found: -found.weight):
            family = sighting.rule.family
            doubt *= 1 - sighting.weight * (REPEATED if family in seen else 1)
            seen.add(family)
            best.setdefault(family, sighting)
        first, *others = best.values()
        together = round(1 - doubt, 4)
        hits = [Hit(first.rule.family, together, first.start, first.end)]
        hits += [Hit(s.rule.family, round(s.weight, 4), s.start, s.end) for s in others]
        return [hit for hit in hits if hit.score >= MIN_SCORE]

    def _sightings(self, text: str, *, indirect: bool) -> Iterator[_Sighting]:
        plain = normalise(text)
        found: set[Rule] = set()
        for sighting in _matches(plain, indirect=indirect):
            found.add(sighting.rule)
            yield sighting
        for disguised in _undisguised(plain):
            for sighting in _matches(disguised, indirect=indirect, extra=HIDDEN):
                if sighting.rule not in found:
                    found.add(sighting.rule)
                    yield sighting
        yield from _encoded(text, indirect=indirect)


def _matches(source: Normalised, *, indirect: bool, extra: float = 0.0) -> Iterator[_Sighting]:
    """Each rule once, where it first matches."""
    text = source.text
    for rule in RULES:
        if rule.indirect and not indirect:
            continue
        for anchor in rule.anchors:
            if anchor in text:
                match = rule.pattern.search(text)
                if match is not None:
                    start, end = source.span(*match.span())
                    yield _Sighting(rule, min(1.0, rule.weight + extra), start, end)
                break


def _undisguised(plain: Normalised) -> Iterator[Normalised]:
    if _LEET.search(plain.text):
        yield Normalised(unleet(plain.text), plain.origin, plain.length)
    runs = [match.span() for match in _SPACED.finditer(plain.text)]
    if runs:
        yield without_gaps(plain, runs)


def _encoded(text: str, *, indirect: bool, depth: int = 2) -> Iterator[_Sighting]:
    for run in decoded(text):
        inner = normalise(run.text)
        for sighting in _matches(inner, indirect=indirect, extra=HIDDEN):
            yield _Sighting(sighting.rule, sighting.weight, run.start, run.end)
        if depth > 1:
            for sighting in _encoded(run.text, indirect=indirect, depth=depth - 1):
                yield _Sighting(sighting.rule, sighting.weight, run.start, run.end)
