"""Metadata that one program further on cannot read would fail every question it is evidence for."""

import json
import math
from typing import Any

import pytest
from pydantic import ValidationError

from penstock.common.events import DocumentSubmitted
from penstock.common.metadata import MOST_LEVELS


def nested(levels: int) -> dict[str, Any]:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return {"a": value}


@pytest.mark.parametrize("metadata", [nested(MOST_LEVELS), nested(190), {"n": 10**30}])
def test_what_cannot_be_passed_on_is_refused_at_the_topic(metadata: dict[str, Any]) -> None:
    """A record published straight to the topic is refused like one over HTTP."""
    with pytest.raises(ValidationError, match="metadata"):
        DocumentSubmitted.model_validate_json(json.dumps({"text": "t", "metadata": metadata}))


def test_ordinary_metadata_is_taken_as_it_is() -> None:
    metadata = nested(MOST_LEVELS - 1) | {"pages": [1, 2.5, True, None], "größe": 2**63 - 1}
    value = json.dumps({"text": "t", "metadata": metadata})
    assert DocumentSubmitted.model_validate_json(value).metadata == metadata


def test_no_number_is_no_value() -> None:
    """What Postgres knows no word for is left out on the way."""
    body = DocumentSubmitted(text="t", metadata={"n": math.nan})
    assert json.loads(body.model_dump_json())["metadata"] == {"n": None}
