"""A change that would break someone is noticed before it lands."""

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "tools"))
from compatibility import incompatible

OLD: dict[str, Any] = {
    "type": "object",
    "required": ["a"],
    "properties": {
        "a": {"type": "string"},
        "b": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "c": {"type": "array", "items": {"type": "object", "properties": {"d": {"enum": [1, 2]}}}},
    },
}


def changed(**properties: Any) -> dict[str, Any]:
    return OLD | {"properties": OLD["properties"] | properties}


@pytest.mark.parametrize(
    ("new", "words"),
    [
        (OLD | {"required": ["a", "b"]}, "b became required"),
        (OLD | {"properties": {"a": {"type": "string"}}}, "b is gone"),
        (changed(a={"type": "integer"}), "a no longer accepts string"),
        (changed(b={"type": "integer"}), "b no longer accepts null"),
        (
            changed(c={"type": "array", "items": {"properties": {"d": {"enum": [1]}}}}),
            "no longer allows 2",
        ),
    ],
)
def test_breaking_changes_are_named(new: dict[str, Any], words: str) -> None:
    assert any(words in sentence for sentence in incompatible(OLD, new))


def test_additions_are_fine() -> None:
    new = changed(e={"type": "string"}, a={"anyOf": [{"type": "string"}, {"type": "null"}]})
    assert list(incompatible(OLD, new)) == []
