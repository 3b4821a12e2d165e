"""Does a changed JSON Schema still accept what it accepted? Additive changes only."""

from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]


def incompatible(old: Schema, new: Schema, where: str = "") -> Iterator[str]:
    """
    Yield a sentence for every change that breaks a reader or a writer of the old schema.

    A property that is gone, one that became required, a type that changed, an allowed value that
    is gone. Descriptions, new optional properties and new allowed values are fine.
    """
    yield from _types(old, new, where)
    old_required, new_required = set(old.get("required", ())), set(new.get("required", ()))
    for name in sorted(new_required - old_required):
        yield f"{where}{name} became required"
    for name, schema in old.get("properties", {}).items():
        if name not in new.get("properties", {}):
            yield f"{where}{name} is gone"
        else:
            yield from incompatible(schema, new["properties"][name], f"{where}{name}.")
    if isinstance(old.get("items"), Mapping) and isinstance(new.get("items"), Mapping):
        yield from incompatible(old["items"], new["items"], f"{where}[].")
    for name, schema in old.get("$defs", {}).items():
        if name in new.get("$defs", {}):
            yield from incompatible(schema, new["$defs"][name], f"{name}.")


def _types(old: Schema, new: Schema, where: str) -> Iterator[str]:
    label = where.rstrip(".") or "the value"
    gone = _accepted(old) - _accepted(new)
    if gone and _accepted(new):
        yield f"{label} no longer accepts {', '.join(sorted(gone))}"
    lost = set(map(str, old.get("enum", ()))) - set(map(str, new.get("enum", ())))
    if lost and "enum" in new:
        yield f"{label} no longer allows {', '.join(sorted(lost))}"


def _accepted(schema: Schema) -> set[str]:
    """The types and references a schema accepts; empty: anything."""
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        return set().union(*(_accepted(choice) for choice in choices))
    if "$ref" in schema:
        return {str(schema["$ref"])}
    kind = schema.get("type")
    return set(kind) if isinstance(kind, list) else {str(kind)} if kind else set()
