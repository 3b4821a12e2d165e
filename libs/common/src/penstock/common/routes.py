"""One subscription of a process: its handler, what waits for it, what it works on."""

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiokafka import ConsumerRecord

from penstock.common import events
from penstock.common.envelope import Publication, Record
from penstock.common.topics import Topic

Body = TypeVar("Body", bound=events.Event)
Handler = Callable[[Sequence[Record[Body]]], Awaitable[Sequence[Publication[Any]]]]


@dataclass(slots=True)
class Route:
    """One subscription: its handler, what waits for it and what it works on."""

    topic: Topic[Any]
    handler: Handler[Any]
    batch: int
    concurrency: int
    in_key_order: bool
    stage: events.Stage | None
    cancellable: bool
    waiting: deque[ConsumerRecord] = field(default_factory=deque)
    behind: dict[bytes, deque[ConsumerRecord]] = field(default_factory=dict)
    """Records that wait for an earlier one of their key; a key in here is busy."""
    held: int = 0
    """Taken from Kafka and not finished."""
    active: int = 0

    @property
    def high_water(self) -> int:
        return max(64, 2 * self.batch * self.concurrency)

    def take(self, raw: ConsumerRecord) -> None:
        self.held += 1
        if self.in_key_order and raw.key is not None:
            if raw.key in self.behind:
                self.behind[raw.key].append(raw)
                return
            self.behind[raw.key] = deque()
        self.waiting.append(raw)

    def next_batch(self) -> list[ConsumerRecord]:
        if self.active >= self.concurrency:
            return []
        return [self.waiting.popleft() for _ in range(min(self.batch, len(self.waiting)))]

    def release(self, raw: ConsumerRecord) -> None:
        self.held -= 1
        if self.in_key_order and raw.key is not None:
            behind = self.behind.get(raw.key)
            if behind:
                self.waiting.append(behind.popleft())
            else:
                self.behind.pop(raw.key, None)

    def forget(self) -> None:
        self.waiting.clear()
        self.behind.clear()
        self.held = self.active = 0
