"""Topics that a policy does not want: plain regular expressions by name."""

import re
from collections.abc import Mapping

from penstock.guard.detection import Context, Hit


class TopicDetector:
    """A hit of score 1 wherever a topic's pattern matches; the category is the topic's name."""

    name = "topics"
    version = "1"

    def __init__(self, topics: Mapping[str, re.Pattern[str]]) -> None:
        self._topics = topics

    def scan(self, text: str, context: Context) -> list[Hit]:  # noqa: ARG002
        return [
            Hit(topic, 1.0, *match.span())
            for topic, pattern in self._topics.items()
            for match in pattern.finditer(text)
            if match.group()
        ]
