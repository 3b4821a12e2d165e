"""Which offsets of a partition are done: what may be committed is the lowest unfinished one."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Progress:
    """Of one partition. Offsets are taken in rising order and finish in any order."""

    _unfinished: dict[int, None] = field(default_factory=dict)
    _next: int | None = None
    committed: int | None = None

    def taken(self, offset: int) -> None:
        self._unfinished[offset] = None
        self._next = offset + 1

    def finished(self, offset: int) -> None:
        self._unfinished.pop(offset, None)

    @property
    def committable(self) -> int | None:
        """The offset to read next after a restart; None: nothing taken yet."""
        return next(iter(self._unfinished), self._next)

    @property
    def news(self) -> int | None:
        """What to commit, when it is more than what was."""
        offset = self.committable
        return offset if offset is not None and offset != self.committed else None
