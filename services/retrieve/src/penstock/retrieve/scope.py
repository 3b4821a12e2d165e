"""What a search may find, as values and as SQL."""

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
