"""How well the extractive answerer abstains and quotes, and how long it takes.

    python bench/answer.py            # 600 questions; about a minute
    QUICK=1 python bench/answer.py    # the half that chose nothing

Every question gets the passage that comes with it (which answers it or does not) and the five
passages of other questions that lie nearest, ranked by similarity: what a search would hand over.
Weights were chosen on the half of the questions whose id hashes to an even number; the figures
that count are those of the other half. Ends with status 1 below a floor: the floors come from the
first honest run and are never lowered.
"""

import asyncio
import hashlib
import re
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from penstock.common.events import Passage, TextSpan
from penstock.generate.extractive import DEFAULT_WEIGHTS, WEIGHTS, Question, candidates, extract
from penstock.models.opening import open_embedder
from penstock.models.ports import Embedder, Vectors
from penstock.models.text import embedded_text
from reporting import QUICK, begin, finish, rows

QUESTIONS = "rag_qa/clapnq_dev/questions.jsonl"
FLOORS = {"answer.abstain_balanced_accuracy": 0.78, "answer.quote_overlap": 0.53}
TOP_K = 6

Results = list[tuple[dict[str, Any], str]]
"""A row of the set and what was quoted; empty: abstained."""


def chosen_half(question_id: str) -> bool:
    return int(hashlib.sha256(question_id.encode()).hexdigest(), 16) % 2 == 0


def passages(row: int, given: Sequence[dict[str, Any]], similarity: Vectors) -> list[Passage]:
    """The row's own passage and the nearest others, best first."""
    own = given[row]["passages"][0]["text"]
    others = (
        int(i)
        for i in np.argsort(-similarity)
        if i != row and given[int(i)]["passages"][0]["text"] != own
    )
    kept = sorted([row, *(next(others) for _ in range(TOP_K - 1))], key=lambda i: -similarity[i])
    return [
        Passage(
            chunk_id=str(i), document_id=str(i), version=1, score=float(similarity[i]), rank=rank,
            title=given[i]["passages"][0]["title"], text=given[i]["passages"][0]["text"],
            span=TextSpan(start=0, end=len(given[i]["passages"][0]["text"])),
            dense_score=float(similarity[i]),
        )
        for rank, i in enumerate(kept, 1)
    ]  # fmt: skip


def overlap(quoted: str, gold: str) -> float:
    """F1 over word multisets."""
    a, b = (Counter(re.findall(r"\w+", text.casefold())) for text in (quoted, gold))
    common = sum((a & b).values())
    return 2 * common / (sum(a.values()) + sum(b.values())) if common else 0.0


async def answer(
    text: str, vector: Vectors, evidence: Sequence[Passage], embedder: Embedder
) -> tuple[str, float]:
    """The quotes (empty: abstained) and the milliseconds it took beside the question's vector."""
    started = time.perf_counter()
    question = Question.read(text)
    found = candidates(question, evidence)
    vectors = await embedder.embed_documents([c.sentence.text for c in found])
    weights = WEIGHTS.get(embedder.model, DEFAULT_WEIGHTS)
    result = extract(question, evidence, found, (vectors @ vector).tolist(), weights)
    quoted = " ".join(c.sentence.text for c in result.quotes)
    return quoted, (time.perf_counter() - started) * 1000


def figures(results: Results) -> dict[str, float]:
    answerable = [(row, quoted) for row, quoted in results if row["answerable"]]
    others = [(row, quoted) for row, quoted in results if not row["answerable"]]
    quoted_share = sum(bool(quoted) for _, quoted in answerable) / len(answerable)
    abstained_share = sum(not quoted for _, quoted in others) / len(others)
    overlaps = [max(overlap(q, gold) for gold in row["answers"]) for row, q in answerable if q]
    return {
        "questions": len(results),
        "answered_when_answerable": quoted_share,
        "abstained_when_not": abstained_share,
        "abstain_balanced_accuracy": (quoted_share + abstained_share) / 2,
        "quote_overlap": statistics.mean(overlaps),
    }


async def run(asked: Sequence[int], given: Sequence[dict[str, Any]]) -> tuple[Results, list[float]]:
    """What was quoted for each of the questions `asked` (rows of `given`), and milliseconds."""
    results, times = [], []
    async with open_embedder() as embedder:
        shown = [row["passages"][0] for row in given]
        matrix = await embedder.embed_documents(
            [embedded_text(p["title"], (), p["text"]) for p in shown]
        )
        for i in asked:
            vector = await embedder.embed_query(given[i]["question"])
            evidence = passages(i, given, matrix @ vector)
            quoted, took = await answer(given[i]["question"], vector, evidence, embedder)
            results.append((given[i], quoted))
            times.append(took)
    return results, times


async def measure(*, quick: bool) -> dict[str, float]:
    """The figures of the last line; prints the table."""
    given = list(rows(QUESTIONS))
    asked = [i for i, row in enumerate(given) if not quick or not chosen_half(row["id"])]
    results, times = await run(asked, given)
    halves = {"held out": figures([r for r in results if not chosen_half(r[0]["id"])])}
    if not quick:
        halves["chosen on"] = figures([r for r in results if chosen_half(r[0]["id"])])
    held = halves["held out"]
    for name in held:
        print(f"{name:28}", *(f"{half}: {values[name]:8.3f}" for half, values in halves.items()))
    p50 = statistics.median(times)
    p95 = statistics.quantiles(times, n=20)[-1]
    print(f"{'answer, ms':28} p50: {p50:.1f}  p95: {p95:.1f}")
    return {
        "answer.abstain_balanced_accuracy": round(held["abstain_balanced_accuracy"], 4),
        "answer.quote_overlap": round(held["quote_overlap"], 4),
        "answer.p50_ms": round(p50, 1),
        "answer.p95_ms": round(p95, 1),
    }


def main() -> None:
    begin(__doc__, QUESTIONS).parse_args()
    if QUICK:
        print("quick form: the held-out half of the questions, whole")
    finish(asyncio.run(measure(quick=QUICK)), at_least=FLOORS)


if __name__ == "__main__":
    main()
