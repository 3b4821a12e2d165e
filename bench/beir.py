"""Retrieval sets in BEIR layout, and the two measures of a ranking."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from reporting import DATA, rows


@dataclass(frozen=True, slots=True)
class Document:
    id: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class TestSet:
    __test__ = False  # not a test, whatever pytest makes of the name

    name: str
    documents: list[Document]
    queries: dict[str, str]
    judged: dict[str, dict[str, int]]
    """Grades by query and document; higher is better."""


def load(name: str) -> TestSet:
    """A whole set of `DATA`/retrieval, with those of its queries that have judgements."""
    folder = f"retrieval/{name}"
    packed = (DATA / folder / "corpus.jsonl.gz").exists()
    corpus = rows(f"{folder}/corpus.jsonl{'.gz' if packed else ''}")
    documents = [Document(d["_id"], d.get("title", ""), d["text"]) for d in corpus]
    judged: dict[str, dict[str, int]] = {}
    for line in (DATA / folder / "qrels.tsv").read_text().splitlines()[1:]:
        query, document, grade = line.split("\t")
        judged.setdefault(query, {})[document] = int(grade)
    asked = rows(f"{folder}/queries.jsonl")
    queries = {q["_id"]: q["text"] for q in asked if q["_id"] in judged}
    return TestSet(name, documents, queries, judged)


def ndcg(ranking: Sequence[str], grades: dict[str, int], k: int = 10) -> float:
    """Gains are the grades themselves."""
    gained = sum(grades.get(d, 0) / math.log2(i + 2) for i, d in enumerate(ranking[:k]))
    best = sorted(grades.values(), reverse=True)[:k]
    return gained / sum(grade / math.log2(i + 2) for i, grade in enumerate(best))


def recall(ranking: Sequence[str], grades: dict[str, int], k: int = 50) -> float:
    relevant = {document for document, grade in grades.items() if grade > 0}
    return len(relevant & set(ranking[:k])) / len(relevant)
