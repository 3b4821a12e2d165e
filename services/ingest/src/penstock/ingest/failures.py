"""How a document fails for a reason that is in the document."""

from penstock.common.events import Failure


class Unreadable(Exception):  # noqa: N818  (a verdict on a document, not a fault of the program)
    """The document cannot be read; the message is for the person who submitted it.

    `type`: empty, unknown_type, encrypted, damaged, too_large, too_many_chunks, no_text,
    converter_missing, timeout, out_of_memory, crashed, uri_refused, uri_failed.
    """

    def __init__(self, message: str, *, type: str) -> None:  # noqa: A002
        super().__init__(message)
        self.type = type

    def __reduce__(self) -> tuple[object, ...]:
        return _unreadable, (str(self), self.type)

    def failure(self) -> Failure:
        return Failure(type=self.type, message=str(self))


def _unreadable(message: str, type: str) -> Unreadable:  # noqa: A002
    return Unreadable(message, type=type)
