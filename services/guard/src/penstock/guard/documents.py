"""The document gate: screen a batch of chunks, their edges and their headings. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from penstock.common.events import Chunk, ChunkBatch, DocumentCleared, Finding, TextSpan
from penstock.guard.detection import Context
from penstock.guard.engine import Engine, masked

EDGE = 120
"""Characters on each side of a border between chunks that are read together."""

_CONTEXT = Context("document")


@dataclass(frozen=True, slots=True)
class Screened:
    """A batch after the gate: redacted, its findings on its chunks and gathered."""

    cleared: DocumentCleared
    findings: tuple[Finding, ...]


def screen(batch: ChunkBatch, engine: Engine) -> Screened:
    """Screen a batch. Spans of findings count in the document's extracted text.

    Title and headings are screened too, because prompts carry them; their findings have no span
    and are noted on the chunks below them.
    """
    chunks = batch.chunks
    inner = [engine.findings(chunk.text, _CONTEXT) for chunk in chunks]
    for index in range(len(chunks) - 1):
        left, right = across(chunks[index], chunks[index + 1], engine)
        inner[index] += left
        inner[index + 1] += right
    title = engine.screen(batch.title, _CONTEXT) if batch.title else None
    headings = {
        heading: engine.screen(heading, _CONTEXT)
        for heading in {heading for chunk in chunks for heading in chunk.heading_path}
    }
    above = unplaced(title.findings if title else ())
    below = {heading: unplaced(seen.findings) for heading, seen in headings.items()}
    texts = {heading: seen.text for heading, seen in headings.items()}
    screened = tuple(
        _chunk(chunk, found, above, below, texts)
        for chunk, found in zip(chunks, inner, strict=True)
    )
    cleared = DocumentCleared(
        **{**dict(batch), "title": title.text if title else batch.title, "chunks": screened}
    )
    return Screened(cleared, _gathered(screened))


def across(left: Chunk, right: Chunk, engine: Engine) -> tuple[list[Finding], list[Finding]]:
    """Findings that lie over the border of two neighbours, cut at it: one part for each."""
    gap = "" if left.span.end == right.span.start else " "
    tail = left.text[-EDGE:]
    border = len(tail)
    shift = len(left.text) - border
    mine: list[Finding] = []
    theirs: list[Finding] = []
    for finding in engine.findings(tail + gap + right.text[:EDGE], _CONTEXT):
        span = finding.span
        if span is not None and span.start < border and span.end > border + len(gap):
            mine.append(placed(finding, span.start + shift, len(left.text)))
            theirs.append(placed(finding, 0, span.end - border - len(gap)))
    return mine, theirs


def placed(finding: Finding, start: int, end: int) -> Finding:
    return finding.model_copy(update={"span": TextSpan(start=start, end=end)})


def unplaced(findings: Iterable[Finding]) -> list[Finding]:
    return [finding.model_copy(update={"span": None}) for finding in findings]


def _chunk(
    chunk: Chunk,
    found: Sequence[Finding],
    above: Sequence[Finding],
    below: Mapping[str, Sequence[Finding]],
    texts: Mapping[str, str],
) -> Chunk:
    start = chunk.span.start
    own = [
        placed(finding, finding.span.start + start, finding.span.end + start)
        for finding in found
        if finding.span is not None
    ]
    inherited = [*above, *(f for heading in chunk.heading_path for f in below[heading])]
    return chunk.model_copy(
        update={
            "text": masked(chunk.text, found),
            "heading_path": tuple(texts[heading] for heading in chunk.heading_path),
            "findings": (*chunk.findings, *own, *inherited),
        }
    )


def _gathered(chunks: Iterable[Chunk]) -> tuple[Finding, ...]:
    """Each finding once, in order: those of a title are on every chunk below it."""
    return tuple(dict.fromkeys(finding for chunk in chunks for finding in chunk.findings))
