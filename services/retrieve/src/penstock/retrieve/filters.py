"""The filter language on metadata, and access by groups, as SQL conditions on `chunk c`.

A filter is a flat JSON object; all fields must hold. `{"field": value}` is equality,
`{"field": {"in": [value, …]}}` any of them, `{"field": {"gte": 1, "lt": 9}}` a range (`gt`, `gte`,
`lt`, `lte`). A field that holds a list matches when one of its items does. Numbers compare as
numbers and strings as strings (by code point), never one with the other.

Nothing a caller writes becomes part of the SQL text: names and values are parameters.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from penstock.common.failures import PermanentError

MAX_FIELDS = 16
MAX_NAME = 200
MAX_VALUES = 100
MAX_STRING = 1_000
MAX_WHOLE = 2**63
MAX_NARROWING = 64

_COMPARISONS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_OPERATORS = "in, gt, gte, lt, lte"

Value = str | bool | int | float


@dataclass(frozen=True, slots=True)
class AnyOf:
    """The field equals one of the values, or is a list that holds one."""

    field: str
    values: tuple[Value, ...]

    def contained(self) -> list[dict[str, Any]]:
        """What the metadata may contain (jsonb `@>`) for this to hold."""
        return [{self.field: form} for value in self.values for form in (value, [value])]


@dataclass(frozen=True, slots=True)
class Compare:
    """The field lies on one side of a number or of a string."""

    field: str
    operator: str
    """Of SQL."""
    value: str | int | float


Condition = AnyOf | Compare


@dataclass(frozen=True, slots=True)
class Filter:
    """All conditions must hold; none: everything matches."""

    conditions: tuple[Condition, ...] = ()

    def narrowing(self) -> list[str] | None:
        """JSON objects of which a matching chunk's metadata contains one; None when none is known.

        A superset by equalities alone, for an index on containment to start from.
        """
        forms: list[dict[str, Any]] = []
        for condition in self.conditions:
            if isinstance(condition, AnyOf):
                options = condition.contained()
                if len(options) * max(len(forms), 1) <= MAX_NARROWING:
                    forms = [a | b for a, b in product(forms or [{}], options)]
        return [json.dumps(form) for form in forms] or None


EVERYTHING = Filter()


def parse(raw: Mapping[str, Any]) -> Filter:
    """
    Read a filter as a caller wrote it.

    Raises:
        PermanentError: `invalid_filter`, with the field, the limit and what to do.
    """
    if len(raw) > MAX_FIELDS:
        raise _refused("filter", f"has {len(raw)} fields; {MAX_FIELDS} at most")
    conditions: list[Condition] = []
    for field, wanted in raw.items():
        where = f"filter.{field[:MAX_NAME]}"
        if not field or len(field) > MAX_NAME or "\0" in field:
            raise _refused(where, f"is no field name; use 1 to {MAX_NAME} characters, no NUL")
        if isinstance(wanted, Mapping):
            conditions += _operators(field, where, wanted)
        else:
            conditions.append(AnyOf(field, (_value(where, wanted),)))
    return Filter(tuple(conditions))


def _operators(field: str, where: str, wanted: Mapping[str, Any]) -> list[Condition]:
    if not wanted:
        raise _refused(where, f"names no operator; use a value or one of {_OPERATORS}")
    conditions: list[Condition] = []
    for name, operand in wanted.items():
        if name == "in":
            conditions.append(AnyOf(field, _values(f"{where}.in", operand)))
        elif name in _COMPARISONS:
            value = _value(f"{where}.{name}", operand)
            if isinstance(value, bool):
                raise _refused(
                    f"{where}.{name}", "cannot compare true or false; use a number or a string"
                )
            conditions.append(Compare(field, _COMPARISONS[name], value))
        else:
            raise _refused(where, f"knows no operator {name[:50]!r}; use {_OPERATORS}")
    return conditions


def _values(where: str, operand: object) -> tuple[Value, ...]:
    if not isinstance(operand, list | tuple) or not 1 <= len(operand) <= MAX_VALUES:
        raise _refused(where, f"must be a list of 1 to {MAX_VALUES} values")
    return tuple(_value(where, value) for value in operand)


def _value(where: str, value: object) -> Value:
    if isinstance(value, str):
        if len(value) > MAX_STRING or "\0" in value:
            raise _refused(where, f"is too long or holds NUL; {MAX_STRING} characters at most")
        return value
    if isinstance(value, bool) or (isinstance(value, int) and abs(value) < MAX_WHOLE):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise _refused(where, "must be a string, a number (whole ones below 2^63), true or false")


def _refused(where: str, what: str) -> PermanentError:
    return PermanentError(f"{where} {what}", type="invalid_filter")


class Parameters:
    """Collects a statement's values; `add` gives the placeholder that stands for one."""

    def __init__(self, *values: object) -> None:
        self.values: list[object] = list(values)

    def add(self, value: object) -> str:
        self.values.append(value)
        return f"${len(self.values)}"


def conditions(wanted: Filter, groups: Sequence[str], parameters: Parameters) -> str:
    """SQL for `chunk c`: readable by `groups`, and every condition of the filter holds."""
    readable = f"(c.access IS NULL OR c.access && {parameters.add(list(groups))}::text[])"
    return " AND ".join([readable, *(_condition(one, parameters) for one in wanted.conditions)])


def _condition(condition: Condition, parameters: Parameters) -> str:
    if isinstance(condition, AnyOf):
        forms = [json.dumps(form) for form in condition.contained()]
        return f"c.metadata @> ANY ({parameters.add(forms)}::text[]::jsonb[])"
    field = parameters.add(condition.field)
    if isinstance(condition.value, str):
        value = parameters.add(condition.value)
        return (
            f"(jsonb_typeof(c.metadata -> {field}::text) = 'string'"
            f' AND c.metadata ->> {field}::text COLLATE "C" {condition.operator} {value}::text)'
        )
    value = parameters.add(json.dumps(condition.value))
    # jsonb orders numbers as numbers, and unlike a cast it cannot fail on what is none
    return (
        f"(jsonb_typeof(c.metadata -> {field}::text) = 'number'"
        f" AND c.metadata -> {field}::text {condition.operator} {value}::text::jsonb)"
    )
