"""A parse worker: a process of its own that reads one document after the other.

Started by `pool` as `python -m penstock.ingest.worker <fd> <seconds> <bytes>`; jobs come and
answers go over the inherited socket. Whatever a file does to the parsers, it does it here.
"""

import resource
import signal
import sys
import traceback
from array import array
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.connection import Connection

from penstock.common.failures import PermanentError, TransientError
from penstock.common.privacy import close_to_neighbours
from penstock.ingest.chunking import batches, chunk, cut_of
from penstock.ingest.failures import Unreadable
from penstock.ingest.jobs import Chunked, Failed, Job, Started
from penstock.ingest.parsers import parse

Offsets = Callable[[str], Sequence[tuple[int, int]]]
"""The half-open character range of every token of a text."""

_TOKENISED_AT_ONCE = 200_000
"""Characters; the tokenizer's own results take some 200 bytes a token."""
_DEEP = 4000
"""Frames: documents nest deeper than programs call."""


def work(job: Job) -> Chunked:
    """Parse, chunk and batch one document."""
    from penstock.models.registry import model_spec
    from penstock.models.tokens import tokenizer

    parsed = parse(job.data, job.filename)
    starts = partial(token_starts, tokenizer(job.model).offsets)
    chunks = chunk(parsed, starts, aim=job.chunk_tokens, most=job.max_chunks)
    return Chunked(
        title=parsed.title,
        converter=parsed.converter,
        cut=cut_of(chunks),
        batches=tuple(batches(chunks, model_spec(job.model).dim)),
    )


def token_starts(offsets: Offsets, text: str) -> Sequence[int]:
    """Where every token of a text begins; long texts are tokenised in stretches of whole lines."""
    starts = array("Q")
    at = 0
    while at < len(text):
        end = _stretch(text, at)
        starts.extend(at + start for start, stop in offsets(text[at:end]) if stop > start)
        at = end
    return starts


def _stretch(text: str, at: int) -> int:
    """The end of the next stretch: behind a line, a word, or where neither is near."""
    end = at + _TOKENISED_AT_ONCE
    if end >= len(text):
        return len(text)
    return (text.rfind("\n", at, end) + 1) or (text.rfind(" ", at, end) + 1) or end


def prepare(job: Job) -> Started | Failed:
    """All that is needed to read any document of its collection; nothing of the document itself."""
    from penstock.models.tokens import tokenizer

    try:
        tokenizer(job.model)
    except (PermanentError, TransientError) as error:
        return Failed(error)
    return Started()


def answer(job: Job) -> Chunked | Failed:
    """The one place where anything at all may be raised: a parser has met a foreign file."""
    try:
        return work(job)
    except (Unreadable, PermanentError, TransientError) as error:
        return Failed(error)
    except MemoryError:
        return Failed(
            Unreadable("Reading the document takes more memory than allowed.", type="out_of_memory")
        )
    except RecursionError:
        return Failed(Unreadable("The document is nested too deeply.", type="damaged"))
    except Exception as error:  # noqa: BLE001  (see above; the trace is logged by the pool)
        message = f"The document cannot be read ({type(error).__name__}: {error})."
        return Failed(Unreadable(message, type="damaged"), traceback.format_exc())


def main(descriptor: int, seconds: int, memory: int) -> None:
    """Serve until the pool closes its end.

    The alarm ends a worker whose pool has died; the pool itself is quicker.
    """
    close_to_neighbours()  # what another worker reads may be another tenant's
    sys.setrecursionlimit(_DEEP)
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with Connection(descriptor) as connection:
        while True:
            try:
                job = connection.recv()
                ready = prepare(job)
                connection.send(ready)
                if isinstance(ready, Started):
                    signal.alarm(seconds + 5)
                    connection.send(answer(job))
                    signal.alarm(0)
            except (EOFError, ConnectionError):
                return


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]))
