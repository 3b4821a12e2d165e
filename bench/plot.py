"""Memory of each process and the rate of each stage over a load, as one SVG.

python bench/ingest.py --samples FILE
python bench/plot.py FILE docs/benchmarks/ingest.svg
"""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

WINDOW_S = 10.0
"""Rates are averages over so long."""
STAGES = ("ingest", "guard-documents", "embed", "indexer", "api")


def joined(rounds: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The samples of all rounds on one axis, as if each began where the last one ended."""
    found: list[dict[str, Any]] = []
    for samples in rounds:
        start = found[-1]["at"] if found else 0.0
        found += [{**sample, "at": start + sample["at"]} for sample in samples]
    return found


def memory(axes: Axes, samples: list[dict[str, Any]]) -> None:
    names = sorted(samples[-1]["rss"], key=lambda name: -samples[-1]["rss"][name])
    minutes = [sample["at"] / 60 for sample in samples]
    for name in names:
        axes.plot(minutes, [sample["rss"][name] / 2**20 for sample in samples], label=name)
    axes.set(title="resident memory, children included", ylabel="MiB", ylim=(0, None))


def rates(axes: Axes, samples: list[dict[str, Any]]) -> None:
    for name in STAGES:
        points = []
        first = 0
        for sample in samples:
            while sample["at"] - samples[first]["at"] > WINDOW_S:
                first += 1
            took = sample["at"] - samples[first]["at"]
            if took > WINDOW_S / 2:
                done = sample["done"][name] - samples[first]["done"][name]
                points.append((sample["at"] / 60, done / took))
        axes.plot(*zip(*points, strict=True), label=name)
    axes.set(title="records handled", ylabel="records a second", xlabel="minutes", ylim=(0, None))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("samples", type=Path)
    parser.add_argument("svg", type=Path)
    arguments = parser.parse_args()
    samples = joined(json.loads(arguments.samples.read_text()))
    mpl.rcParams.update({"svg.hashsalt": "penstock", "font.size": 9, "axes.spines.top": False})
    figure = Figure(figsize=(9, 8), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    memory(upper, samples)
    rates(lower, samples)
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    figure.savefig(arguments.svg, metadata={"Date": None})


if __name__ == "__main__":
    main()
