"""What a model sees of a chunk."""

from collections.abc import Sequence


def embedded_text(title: str | None, heading_path: Sequence[str], text: str) -> str:
    """The chunk under its document's title and headings, so that it is found by its subject.

    A heading that repeats the one above it (or the title) is written once. Only for embedding:
    what people see is the chunk alone.
    """
    above: list[str] = []
    for part in (title, *heading_path):
        words = " ".join((part or "").split())
        if words and (not above or words != above[-1]):
            above.append(words)
    return f"{' > '.join(above)}\n{text}" if above else text
