"""The dense leg: chunks by the cosine of their vectors to the query's.

Three plans for one answer. A selective scope is ranked whole; otherwise the HNSW index is walked,
iteratively, until enough chunks pass the filters; where that stops short, everything is ranked. So
k chunks come whenever k exist.
"""

from collections.abc import Sequence

import asyncpg
import numpy as np
from numpy.typing import NDArray

from penstock.retrieve.filters import Parameters
from penstock.retrieve.scope import DEPTH, Scope

SERVER_SETTINGS = {
    "hnsw.ef_search": "100",
    "hnsw.iterative_scan": "relaxed_order",
}
"""For the searcher's connections; ef_search bounds what one step of the walk returns."""

Vector = NDArray[np.float32]


async def nearest(
    connection: asyncpg.Connection, vector: Vector, scope: Scope, among: Sequence[int] | None
) -> list[int]:
    """The chunks nearest to `vector`, best first, at most `DEPTH`; of `among` where it is known."""
    if among is not None:
        return await _ranked_whole(connection, vector, scope, among)
    found = await _walked(connection, vector, scope)
    if len(found) < DEPTH:
        return await _ranked_whole(connection, vector, scope, None)
    return found


async def _walked(connection: asyncpg.Connection, vector: Vector, scope: Scope) -> list[int]:
    """Along the HNSW index. Its relaxed order needs the sort, and the sort needs the `+ 0`.

    With its limit in the text: where that is a parameter, Postgres plans it for a tenth of the
    rows, and as the plan at hand looks dear so, plans anew each time.
    """
    parameters = Parameters(vector)
    rows = await connection.fetch(
        f"""
        WITH walked AS MATERIALIZED (
            SELECT e.chunk, e.vector <#> $1 AS distance
            FROM embedding_{scope.generation:d} e JOIN chunk c ON c.id = e.chunk
            WHERE e.tenant = {parameters.add(scope.tenant)}::text AND {scope.where(parameters)}
            ORDER BY e.vector <#> $1
            LIMIT {DEPTH:d}
        )
        SELECT chunk FROM walked ORDER BY distance + 0, chunk
        """,  # noqa: S608  (conditions hold placeholders only)
        *parameters.values,
    )
    return [row["chunk"] for row in rows]


async def _ranked_whole(
    connection: asyncpg.Connection, vector: Vector, scope: Scope, among: Sequence[int] | None
) -> list[int]:
    """By exact distance; the `+ 0` keeps the HNSW index, which is not exact, out of the plan."""
    parameters = Parameters(vector, DEPTH)
    chosen = f"e.chunk = ANY ({parameters.add(among)}::bigint[]) AND " if among is not None else ""
    rows = await connection.fetch(
        f"""
        SELECT e.chunk
        FROM embedding_{scope.generation:d} e JOIN chunk c ON c.id = e.chunk
        WHERE {chosen} e.tenant = {parameters.add(scope.tenant)}::text AND {scope.where(parameters)}
        ORDER BY (e.vector <#> $1) + 0, e.chunk
        LIMIT $2
        """,  # noqa: S608  (conditions hold placeholders only)
        *parameters.values,
    )
    return [row["chunk"] for row in rows]
