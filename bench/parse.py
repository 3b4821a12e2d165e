"""Text recall of the parsers over real files with reviewed Markdown (docling's test set).

    python bench/parse.py       # seconds; QUICK=1 changes nothing, the set is small

Recall: of the words in the reviewed text, counted as a multiset, how many are in the extracted
text; macro average per format. A file that fails counts 0 and is shown with its reason. Every
file goes through the process pool, as in the service. Ends with status 1 when a file stalls a worker.
"""

import asyncio
import html
import os
import re
import time
from collections import Counter, defaultdict
from dataclasses import dataclass

from penstock.ingest.failures import Unreadable
from penstock.ingest.jobs import Job
from penstock.ingest.pool import Limits, ParsePool
from reporting import DATA, begin, finish, rows

FILES = "doc_parsing/docling"
MODEL = "bge-small-en-v1.5"

_WORD = re.compile(r"\w+")
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")


@dataclass(frozen=True, slots=True)
class Outcome:
    format: str
    name: str
    recall: float
    seconds: float
    note: str = ""
    stalled: bool = False


def words(text: str) -> Counter[str]:
    return Counter(_WORD.findall(text.lower()))


def reviewed_words(markdown: str) -> Counter[str]:
    """Words a reader sees: no link targets, image marks, escapes."""
    text = _LINK.sub(r"\1", _COMMENT.sub("", markdown)).replace("\\", "")
    return words(html.unescape(text))


async def measure(pool: ParsePool, pair: dict[str, str]) -> Outcome:
    source = DATA / FILES / pair["source"]
    truth = reviewed_words((DATA / FILES / pair["groundtruth"]).read_text())
    job = Job(source.read_bytes(), source.name, MODEL, chunk_tokens=220, max_chunks=20_000)
    began = time.perf_counter()
    try:
        chunked = await pool.run(job)
    except Unreadable as error:
        seconds = time.perf_counter() - began
        return Outcome(
            pair["format"], source.name, 0.0, seconds, str(error), error.type == "timeout"
        )
    seconds = time.perf_counter() - began
    found = words("\n".join(one.text for batch in chunked.batches for one in batch))
    recall = sum((truth & found).values()) / max(1, sum(truth.values()))
    return Outcome(pair["format"], source.name, recall, seconds)


async def run() -> list[Outcome]:
    workers = max(1, (os.cpu_count() or 2) - 1)
    async with ParsePool.open(workers, Limits()) as pool:
        pairs = rows(f"{FILES}/pairs.jsonl")
        return await asyncio.gather(*(measure(pool, pair) for pair in pairs))


def report(outcomes: list[Outcome]) -> dict[str, float]:
    """Prints the table; the figures of the last line."""
    by_format: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        by_format[outcome.format].append(outcome)
    print(f"{'format':10} {'files':>5} {'recall':>7} {'worst':>7}")
    for name, group in sorted(by_format.items()):
        recalls = [outcome.recall for outcome in group]
        average = sum(recalls) / len(recalls)
        print(f"{name:10} {len(group):5} {average:7.3f} {min(recalls):7.3f}")
    for outcome in outcomes:
        if outcome.note:
            print(f"{outcome.name}: {outcome.note}")
    figures: dict[str, float] = {
        f"recall.{name}": round(sum(o.recall for o in group) / len(group), 4)
        for name, group in sorted(by_format.items())
    }
    figures["recall.macro"] = round(sum(figures.values()) / len(figures), 4)
    figures["parse.files"] = len(outcomes)
    figures["parse.failed"] = sum(bool(outcome.note) for outcome in outcomes)
    figures["parse.stalled"] = sum(outcome.stalled for outcome in outcomes)
    return figures


def main() -> None:
    begin(__doc__, FILES).parse_args()
    finish(report(asyncio.run(run())), at_most={"parse.stalled": 0})


if __name__ == "__main__":
    main()
