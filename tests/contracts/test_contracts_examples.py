"""What another team has stored or sends today is still readable tomorrow."""

import json
from pathlib import Path
from typing import Any

import pytest

from penstock.common.events import MAX_EVENT_BYTES, Event
from penstock.common.topics import TOPICS, Topic

EXAMPLES = Path(__file__).parent / "examples"


@pytest.mark.parametrize("topic", TOPICS, ids=lambda t: t.name)
def test_every_topic_has_an_example_that_reads_and_writes_back(topic: Topic[Event]) -> None:
    text = (EXAMPLES / f"{topic.name}.json").read_text()
    body = topic.body.model_validate_json(text)
    assert json.loads(body.model_dump_json()) == json.loads(text)
    assert len(body.model_dump_json()) < MAX_EVENT_BYTES


@pytest.mark.parametrize("topic", TOPICS, ids=lambda t: t.name)
def test_a_field_from_the_future_is_no_error(topic: Topic[Event]) -> None:
    future: dict[str, Any] = json.loads((EXAMPLES / f"{topic.name}.json").read_text())
    topic.body.model_validate(future | {"not_invented_yet": 1})


def test_every_example_belongs_to_a_topic() -> None:
    assert {p.stem for p in EXAMPLES.glob("*.json")} == {t.name for t in TOPICS}
