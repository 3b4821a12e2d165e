"""What a search may find, as values and as SQL."""

import time
from dataclasses import dataclass

import asyncpg

from penstock.retrieve.filters import EVERYTHING, Filter, Parameters, conditions

DEPTH = 50
"""Chunks that each leg hands to the fusion."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose documents, of which generation and collection, readable by whom, matching what."""

    tenant: str
    generation: int
    collection: str
    groups: tuple[str, ...] = ()
    filter: Filter = EVERYTHING

    def where(self, parameters: Parameters) -> str:
        """SQL for `chunk c`: inside this scope. The tenant comes on top of row-level security."""
        return (
            f"c.tenant = {parameters.add(self.tenant)}::text"
            f" AND c.generation = {parameters.add(self.generation)}::int"
            f" AND c.collection = {parameters.add(self.collection)}::text"
            f" AND {conditions(self.filter, self.groups, parameters)}"
        )


_NARROWED = "SELECT narrowed($1, $2, $3::text[]::jsonb[], $4)"


async def narrowed(connection: asyncpg.Connection, scope: Scope) -> list[int] | None:
    """The numbers of all chunks that can lie in a selective scope; None: it is not selective."""
    found: list[int] | None = await connection.fetchval(
        _NARROWED,
        scope.generation,
        scope.collection,
        scope.filter.narrowing(),
        list(scope.groups),
    )
    return found


BELIEVED_S = 10.0
"""How long a scope without a filter is taken to be as wide as it was."""

_MOST_BELIEVED = 10_000


class Narrowing:
    """`narrowed`, not asked again for what was too wide a moment ago.

    For most searches that saves a round trip, and Postgres a plan. It changes no answer: a scope
    that has shrunk meanwhile is walked, and ranked whole where the walk stops short.
    """

    def __init__(self) -> None:
        self._wide_until: dict[Scope, float] = {}

    async def narrowed(self, connection: asyncpg.Connection, scope: Scope) -> list[int] | None:
        now = time.monotonic()
        if self._wide_until.get(scope, now) > now:
            return None
        found = await narrowed(connection, scope)
        # Of filters there are too many to remember, and to Python 1 and true are the same one.
        if found is None and scope.filter == EVERYTHING:
            if len(self._wide_until) >= _MOST_BELIEVED:
                self._wide_until.clear()
            self._wide_until[scope] = now + BELIEVED_S
        return found
