"""What the scripts of all frameworks do alike: read the chunks, time one call, print one line.

Runs in the frameworks' environments: the standard library alone.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Arguments:
    chunks: list[dict[str, Any]]
    dsn: str
    model: str


def arguments() -> Arguments:
    """CHUNKS DSN MODEL"""
    path, dsn, model = sys.argv[1:]
    with Path(path).open() as file:
        return Arguments([json.loads(line) for line in file], dsn, model)


def measure(
    framework: str, packages: list[str], given: Arguments, index: Callable[[], object]
) -> None:
    """Run `index` and print what it took."""
    started, used = time.perf_counter(), _cpu()
    index()
    seconds, cpu = time.perf_counter() - started, _cpu() - used
    documents = len({chunk["document"] for chunk in given.chunks})
    figures = {
        "framework": framework,
        "versions": {name: version(name) for name in packages},
        "documents": documents,
        "chunks": len(given.chunks),
        "seconds": round(seconds, 3),
        "docs_per_s": round(documents / seconds, 3),
        "cpu_s": round(cpu, 2),
        "max_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }
    print(json.dumps(figures), flush=True)


def _cpu() -> float:
    own = resource.getrusage(resource.RUSAGE_SELF)
    return own.ru_utime + own.ru_stime
