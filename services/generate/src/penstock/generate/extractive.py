"""The answerer that needs no model: it quotes the sentences that answer, or says it does not know.

Pure: `candidates` picks the sentences worth a look by their words, an embedder (elsewhere) says how
close each is to the question, `extract` weighs both and decides. Where the weights come from:
docs/benchmarks/answer.md.
"""

import math
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from penstock.common.events import Passage
from penstock.generate.asked import asked_for, forms_of
from penstock.generate.sentences import Sentence, split_sentences
from penstock.generate.terms import (
    AnswerType,
    Term,
    answer_type,
    content_stems,
    offers,
    question_terms,
    stems,
)

THRESHOLD = 0.5
"""Confidence below which the answer is "I don't know." """

MAX_CANDIDATES = 12
"""Sentences that are embedded; at about 3 ms each (int8, 2 cores) the bound on the time it takes."""

MAX_QUOTES = 3

MAX_REASONS = 2

MARGIN = 0.6
"""How far behind the best a further quote of an open answer may be, in the score of `extract`."""

OFFERS_BONUS = 0.3
"""What holding a date, a number, a name … weighs against the share of the question's words."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Log-odds that the evidence answers the question, by what was seen of it.

    Two ways lead there: by meaning (the cosine similarities, which belong to a model) and by words
    (nearly all of the question's stand beside a fact of the kind it asks for). The better counts.
    """

    bias: float
    passage: float
    """Of the best passage's cosine similarity to the question."""
    sentence: float
    """Of the best sentence's cosine similarity."""
    coverage: float
    """Of the share of the question's words, by weight, in the best sentence."""
    words: float = 8.0
    """By words: of the coverage beyond what is enough."""
    words_sentence: float = 4.0
    """By words: of the sentence's cosine similarity beyond `usual`."""
    usual: float = 0.65
    enough: float = 0.55
    """Coverage at which the words alone speak as much for as against an answer."""
    enough_open: float = 0.75
    """The same for a question that does not ask for one fact."""
    missing: float = -0.5
    """One fact: of the share of the question's words that no passage mentions."""
    missing_names: float = -4.0
    """Of the share of its names and identifiers that no passage mentions."""
    missing_asked: float = -3.0
    """One fact: when no passage mentions anything of what is asked for."""


WEIGHTS = {
    "bge-small-en-v1.5": Weights(bias=-17.45, passage=16.52, sentence=7.56, coverage=0.99),
}
"""By embedding model: cosine similarities of one mean nothing in another."""

DEFAULT_WEIGHTS = WEIGHTS["bge-small-en-v1.5"]


@dataclass(frozen=True, slots=True)
class Question:
    text: str
    terms: tuple[Term, ...]
    kind: AnswerType
    asked: frozenset[str]
    """Stems of the thing asked for, as opposed to what it is asked about."""

    @classmethod
    def read(cls, text: str) -> "Question":
        return cls(text, tuple(question_terms(text)), answer_type(text), asked_for(text))

    @property
    def stems(self) -> frozenset[str]:
        return frozenset(term.stem for term in self.terms) | self.asked


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sentence that may answer; `passage` is an index into the passages given."""

    passage: int
    sentence: Sentence
    coverage: float
    """Share of the question's words in the sentence, its headings and title counting half."""
    offers: bool
    """It holds something of the type asked for."""
    heading: bool = False
    """Its passage's title or heading: evidence of what that is about, no answer by itself."""

    @property
    def lexical(self) -> float:
        return self.coverage + (OFFERS_BONUS if self.offers else 0.0)


@dataclass(frozen=True, slots=True)
class Extract:
    """What was found: quotes in reading order (none: abstain), and how sure that they answer."""

    quotes: tuple[Candidate, ...]
    confidence: float
    """Probability, 0 to 1, that the passages answer the question."""
    nearest: tuple[Candidate, ...] = ()
    """The best candidates, also when nothing is quoted."""


def candidates(question: Question, passages: Sequence[Passage]) -> list[Candidate]:
    """At most `MAX_CANDIDATES` sentences, the likeliest by their words first."""
    read = [
        _Read(index, sentence, *(forms_of(question.stems, words) for words in (text, context)))
        for index, passage in enumerate(passages)
        for sentence, text, context in _in_context(passage)
    ]
    weights = _weights(question.terms, [item.words | item.context for item in read])
    found = [
        Candidate(
            passage=item.passage,
            sentence=item.sentence,
            coverage=_coverage(weights, item.words, item.context),
            offers=offers(question.kind, item.sentence.text, question.text),
            heading=item.sentence.text in _headings(passages[item.passage]),
        )
        for item in read
    ]
    best = [passage.dense_score or 0.0 for passage in passages]
    found.sort(key=lambda c: -(c.lexical + best[c.passage]))
    asked = frozenset(stems(question.text))
    return [c for c in found if not asked.issuperset(content_stems(c.sentence.text))][
        :MAX_CANDIDATES
    ]


def extract(
    question: Question,
    passages: Sequence[Passage],
    found: Sequence[Candidate],
    closeness: Sequence[float],
    weights: Weights,
    *,
    threshold: float = THRESHOLD,
) -> Extract:
    """
    Decide whether the candidates answer, and which of them to quote.

    Args:
        closeness: cosine similarity of each candidate to the question.
        threshold: of the confidence, below which nothing is quoted.
    """
    stating = [candidate for candidate in found if not candidate.heading]
    if not stating:
        return Extract((), 0.0)
    score = {
        id(candidate): 2 * close
        + (passages[candidate.passage].dense_score or close)
        + candidate.lexical
        for candidate, close in zip(found, closeness, strict=True)
    }
    nearest = max(stating, key=lambda c: score[id(c)])
    ranked = _ranked(question, stating, score)
    best = ranked[0]
    closest = max(closeness)
    logit = max(
        _by_meaning(passages, nearest, closest, weights),
        _by_words(question, best, closest, weights),
    ) + _penalty(question, passages, weights)
    confidence = 1 / (1 + math.exp(-logit))
    quotes = _quotes(question, ranked, score) if confidence >= threshold else ()
    return Extract(quotes, confidence, tuple(ranked[:MAX_QUOTES]))


def _by_meaning(
    passages: Sequence[Passage], best: Candidate, closest: float, weights: Weights
) -> float:
    dense = [p.dense_score for p in passages if p.dense_score is not None]
    return (
        weights.bias
        + weights.passage * max(dense, default=closest)
        + weights.sentence * closest
        + weights.coverage * best.coverage
    )


def _by_words(question: Question, best: Candidate, closest: float, weights: Weights) -> float:
    if not best.offers:
        return -math.inf
    enough = weights.enough if question.kind.short else weights.enough_open
    return weights.words * (best.coverage - enough) + weights.words_sentence * (
        closest - weights.usual
    )


def _penalty(question: Question, passages: Sequence[Passage], weights: Weights) -> float:
    """For what the question names or asks for and the evidence never mentions."""
    seen = forms_of(question.stems, {word for passage in passages for word in _words(passage)})
    names = [term for term in question.terms if term.name or term.identifier]
    penalty = weights.missing_names * _share_missing(names, seen)
    if question.kind.short:
        penalty += weights.missing * _share_missing(question.terms, seen)
        if question.asked and question.asked.isdisjoint(seen):
            penalty += weights.missing_asked
    return penalty


def _share_missing(terms: Sequence[Term], seen: AbstractSet[str]) -> float:
    total = sum(term.weight for term in terms)
    return sum(term.weight for term in terms if term.stem not in seen) / total if total else 0.0


def _ranked(
    question: Question, found: Sequence[Candidate], score: dict[int, float]
) -> list[Candidate]:
    """Best first; a fact that was asked for goes before a sentence as close that holds none."""
    ranked = sorted(found, key=lambda c: -score[id(c)])
    if question.kind is AnswerType.OPEN:
        return ranked
    # A reason may stand in words far from the question's; a fact stands beside them.
    least = -math.inf if question.kind is AnswerType.REASON else score[id(ranked[0])] - MARGIN
    same = [c for c in ranked if c.passage == ranked[0].passage and score[id(c)] >= least]
    first = [c for c in same if c.offers][:1]
    return first + [c for c in ranked if c not in first]


def _quotes(
    question: Question, ranked: Sequence[Candidate], score: dict[int, float]
) -> tuple[Candidate, ...]:
    """The best sentence; for an open question also others of its passage that come close to it."""
    best = ranked[0]
    if question.kind.short:
        return (best,)
    same = [candidate for candidate in ranked if candidate.passage == best.passage]
    if question.kind is AnswerType.REASON and best.offers:
        chosen = [c for c in same if c.offers][:MAX_REASONS]
    else:
        chosen = [c for c in same if score[id(c)] >= score[id(best)] - MARGIN][:MAX_QUOTES]
    return tuple(sorted(chosen, key=lambda c: c.sentence.start))


@dataclass(frozen=True, slots=True)
class _Read:
    passage: int
    sentence: Sentence
    words: frozenset[str]
    context: frozenset[str]


def _in_context(
    passage: Passage,
) -> Iterator[tuple[Sentence, frozenset[str], frozenset[str]]]:
    """Each sentence, its words, and those of what it stands under: title, headings, a heading."""
    outer = frozenset(stems(" ".join(_headings(passage))))
    context = outer
    for sentence in split_sentences(passage.text):
        words = frozenset(stems(sentence.text))
        if sentence.heading:
            context = outer | words
        else:
            yield sentence, words, context


def _headings(passage: Passage) -> tuple[str, ...]:
    return (passage.title or "", *passage.heading_path)


def _words(passage: Passage) -> list[str]:
    return stems(" ".join((*_headings(passage), passage.text)))


def _weights(terms: Sequence[Term], sentences: Sequence[frozenset[str]]) -> dict[str, float]:
    """A word that is everywhere in the evidence tells its sentences apart less than a rare one."""
    total = len(sentences)
    return {
        term.stem: term.weight
        * math.log(1 + (total + 1) / (sum(term.stem in words for words in sentences) + 0.5))
        for term in terms
    }


def _coverage(weights: dict[str, float], words: frozenset[str], context: frozenset[str]) -> float:
    total = sum(weights.values())
    if not total:
        return 0.0
    seen = sum(
        weight if stem in words else weight / 2 if stem in context else 0.0
        for stem, weight in weights.items()
    )
    return seen / total
