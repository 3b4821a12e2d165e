"""The lexical leg: exact BM25 over the posting blocks of the question's terms."""

import asyncio
from collections.abc import Sequence

import asyncpg
import numpy as np

from penstock.retrieve import bm25
from penstock.retrieve.bm25 import Block, Corpus, Ranking
from penstock.retrieve.filters import Parameters
from penstock.retrieve.scope import DEPTH, Scope
from penstock.retrieve.terms import terms

ON_LOOP = 20_000
"""Postings that are scored on the event loop, in under a millisecond; more go to a thread."""

MAX_TERMS = 256
"""Different terms of one search; a longer question is searched by its first ones."""

QUESTION_WORDS = frozenset(
    [
        "about", "any", "been", "being", "can", "could", "did", "do", "does", "from", "had", "has",
        "have", "he", "her", "his", "how", "i", "its", "may", "me", "might", "must", "my", "our",
        "she", "should", "so", "some", "than", "we", "were", "what", "when", "where", "which",
        "who", "whom", "whose", "why", "would", "you", "your",
    ]
)  # fmt: skip
"""What makes a sentence a question, not what it asks for. Left out of searches only, so that the
index still has them. BM25 alone gains on six of six sets, the hybrid on some and not on others
(docs/benchmarks/retrieval.md)."""

_BLOCKS = """
    SELECT b.term, s.base, b.chunks, b.tfs, b.lengths, k.chunks AS all_chunks, k.total_length
    FROM posting_block b
    JOIN segment s ON s.id = b.segment
    CROSS JOIN (SELECT chunks, total_length FROM corpus WHERE tenant = $1 AND generation = $2) k
    WHERE b.tenant = $1 AND b.generation = $2 AND b.term = ANY ($3::text[])
"""


def query_terms(text: str) -> list[str]:
    """The terms to search by; all of them where nothing but question words is left."""
    words = text.split()
    telling = [word for word in words if word.lower().strip("?!.,;:\"'()") not in QUESTION_WORDS]
    return (terms(" ".join(telling)) or terms(text))[:MAX_TERMS]


async def best_matching(
    connection: asyncpg.Connection, text: str, scope: Scope, among: Sequence[int] | None
) -> list[int]:
    """The chunks that match `text` best, best first, at most `DEPTH`, inside the scope."""
    return await inside(connection, await ranked(connection, text, scope), scope, among)


async def ranked(connection: asyncpg.Connection, text: str, scope: Scope) -> Ranking:
    """Every chunk of the generation that holds a term of `text`, whatever the scope leaves of it."""
    query = query_terms(text)
    rows = await connection.fetch(
        _BLOCKS, scope.tenant, scope.generation, list(dict.fromkeys(query))
    )
    if not rows:
        return bm25.rank((), (), Corpus(0, 0.0))
    corpus = Corpus(rows[0]["all_chunks"], rows[0]["total_length"] / max(rows[0]["all_chunks"], 1))
    blocks = [
        Block(row["term"], row["base"], row["chunks"], row["tfs"], row["lengths"]) for row in rows
    ]
    if bm25.postings(blocks) <= ON_LOOP:
        return bm25.rank(blocks, query, corpus)
    return await asyncio.to_thread(bm25.rank, blocks, query, corpus)


async def inside(
    connection: asyncpg.Connection, ranking: Ranking, scope: Scope, among: Sequence[int] | None
) -> list[int]:
    """The best of a ranking that lie in the scope, at most `DEPTH`.

    It is walked page by page, each joined with the live chunks and the filters, until enough
    survive or it ends: what the index has lost since, or may not show, costs nobody a place.
    """
    if among is not None:
        kept = np.isin(ranking.ids, np.array(among, np.int64))
        ranking = Ranking(ranking.ids[kept], ranking.scores[kept])
    found: list[int] = []
    for page in ranking.pages():
        found += await _surviving(connection, page.tolist(), scope, DEPTH - len(found))
        if len(found) == DEPTH:
            break
    return found


async def _surviving(
    connection: asyncpg.Connection, page: list[int], scope: Scope, most: int
) -> list[int]:
    """Those of a page that are live and inside the scope, in the page's order."""
    parameters = Parameters(page, most)
    rows = await connection.fetch(
        f"""
        SELECT c.id
        FROM unnest($1::bigint[]) WITH ORDINALITY AS p (id, place) JOIN chunk c ON c.id = p.id
        WHERE {scope.where(parameters)}
        ORDER BY p.place
        LIMIT $2
        """,  # noqa: S608  (conditions hold placeholders only)
        *parameters.values,
    )
    return [row["id"] for row in rows]
