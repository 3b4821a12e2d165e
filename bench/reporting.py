"""What every bench does alike: find the data sets, read them, say how it is run, end with one line.

PENSTOCK_DATA names the folder of the public data sets (default: ../shared/data), QUICK=1 asks for
the quick form. The last line on standard output is one flat JSON object; the exit status is 1 when
a floor is missed, and the lines before the last name every floor and what was reached.
"""

import argparse
import gzip
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import structlog

DATA = Path(os.environ.get("PENSTOCK_DATA", "../shared/data"))
QUICK = os.environ.get("QUICK", "") not in ("", "0")


def begin(description: str | None, *needed: str) -> argparse.ArgumentParser:
    """The parser of a bench's arguments: `--help` is its docstring. Ends where data is absent.

    `needed`: files or folders below `DATA`.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if not {"-h", "--help"} & set(sys.argv):
        for path in needed:
            if not (DATA / path).exists():
                sys.exit(f"{DATA / path} is absent: set PENSTOCK_DATA to the folder of data sets")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    return parser


def rows(path: str) -> Iterator[dict[str, Any]]:
    """The objects of a JSON Lines file below `DATA`; `.gz` is unpacked."""
    raw = (DATA / path).read_bytes()
    for line in (gzip.decompress(raw) if path.endswith(".gz") else raw).splitlines():
        yield json.loads(line)


def finish(
    figures: Mapping[str, float | str],
    *,
    at_least: Mapping[str, float] | None = None,
    at_most: Mapping[str, float] | None = None,
) -> None:
    """Print the bounds, then the figures as the last line; exit status 1 when one is missed."""
    missed = False
    for bounds, word, sign in ((at_least, "floor", 1), (at_most, "ceiling", -1)):
        for name, bound in (bounds or {}).items():
            kept = sign * float(figures[name]) >= sign * bound
            missed |= not kept
            print(f"{word} {bound:.4g} of {name}: {figures[name]} {'kept' if kept else 'MISSED'}")
    print(json.dumps(figures), flush=True)
    if missed:
        sys.exit(1)
