"""Metadata of a document: JSON that every store and every reader further on takes as it is."""

from typing import Annotated, Any

import orjson
from pydantic import AfterValidator

MOST_LEVELS = 32
"""Objects and lists inside each other; the parsers further on give up at a few hundred."""


def storable(value: dict[str, Any]) -> dict[str, Any]:
    """
    The same value, which one bad number or level would else make a document that is found and
    cannot be shown, and that fails every question it is evidence for.

    Raises:
        ValueError: it is too deep, or holds what no other program can read.
    """
    if _deeper(value, MOST_LEVELS):
        raise ValueError(f"must be at most {MOST_LEVELS} levels deep")
    try:
        orjson.dumps(value)
    except TypeError as error:
        raise ValueError(f"must be JSON in UTF-8 with whole numbers below 2^63: {error}") from error
    return value


def _deeper(value: object, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_deeper(one, levels - 1) for one in inner)


Metadata = Annotated[dict[str, Any], AfterValidator(storable)]
