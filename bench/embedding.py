"""Speed and fidelity of the embedder on this machine's cores.

    python bench/embedding.py [MODEL…]      # QUICK=1: fewer texts and rounds

Texts: windows of 70 to 190 tokens out of the Python Enhancement Proposals. Arms take turns, and
ratios are medians over the rounds, because the machine may be busy:

raw, one run at a time     ONNX Runtime alone on tokenised, length-sorted batches of 400 tokens,
                           each run on all cores (its default)
raw, one run per core      the same, each run on one thread
embedder                   penstock.models, from text to vectors, tokenising included
handler                    the embed process without Kafka: events in, events with vectors out
"""

import asyncio
import os
import random
import statistics
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import onnxruntime

from penstock.common.envelope import Envelope, Record, headers
from penstock.common.events import (
    Chunk,
    CollectionConfigured,
    DocumentCleared,
    ElementKind,
    Position,
    TextSpan,
)
from penstock.common.kafka import Collections
from penstock.embed.handlers import embed_documents
from penstock.embed.settings import EmbedSettings
from penstock.models import (
    DEFAULT_MODEL,
    MODELS,
    ModelSettings,
    ModelSpec,
    Tokenizer,
    Vectors,
    model_spec,
    open_embedder,
    tokenizer,
)
from penstock.models.batching import pack, padded, restore
from penstock.models.cache import model_files
from penstock.models.onnx import OnnxEmbedder, load_session, usable_cores
from penstock.models.pooling import pool
from reporting import QUICK, begin, finish, rows

ROUNDS = 7 if QUICK else 9
TEXTS = 120 if QUICK else 300
FIDELITY_TEXTS = 600
QUERIES = 60
BUDGETS = (800, 1600)
PER_CORE = "raw, one run per core"
CORPUS = "corpus/python_peps/corpus.jsonl.gz"

Arm = Callable[[list[str]], Awaitable[object]]


def windows(tokens: Tokenizer, count: int) -> list[str]:
    """Texts of 70 to 190 tokens, the same ones in every run."""
    documents = [row["text"] for row in rows(CORPUS)]
    chance = random.Random(7)
    chance.shuffle(documents)
    texts: list[str] = []
    for document in documents:
        offsets = tokens.offsets(document[:40_000])
        start = 0
        while start < len(offsets) - 190 and len(texts) < count:
            end = start + chance.randint(70, 190)
            texts.append(document[offsets[start][0] : offsets[end - 1][1]])
            start = end + 400
    return texts


def raw_arm(
    spec: ModelSpec, tokens: Tokenizer, session: onnxruntime.InferenceSession, at_once: int
) -> Arm:
    """What ONNX Runtime can do: tokenising is left out of the time by doing it once, before."""
    output = spec.jars["int8"].output
    prepared: dict[int, list[tuple[list[int], dict[str, np.ndarray], np.ndarray]]] = {}

    def prepare(texts: list[str]) -> None:
        ids = tokens.encode(texts).ids
        prepared[id(texts)] = []
        for batch in pack([len(row) for row in ids], 400):
            values, mask = padded([ids[i] for i in batch], max(len(ids[i]) for i in batch))
            feed = {"input_ids": values, "attention_mask": mask, "token_type_ids": values * 0}
            prepared[id(texts)].append((batch, feed, mask))

    def one(job: tuple[list[int], dict[str, np.ndarray], np.ndarray]) -> tuple[list[int], Vectors]:
        batch, feed, mask = job
        return batch, pool(session.run([output], feed)[0], mask, spec.pooling)

    def all_of(texts: list[str]) -> Vectors:
        with ThreadPoolExecutor(at_once) as threads:
            return restore(threads.map(one, prepared[id(texts)]), len(texts), spec.dim)

    async def arm(texts: list[str]) -> object:
        if id(texts) not in prepared:
            prepare(texts)
            return None  # the first call of an arm is its warm-up
        return await asyncio.to_thread(all_of, texts)

    return arm


def records(texts: list[str], chunks: int = 3) -> list[Record[DocumentCleared]]:
    """One small document per record."""
    position = Position(cluster="bench", partition=0, offset=0, at=0)
    made = []
    for at in range(0, len(texts), chunks):
        own = tuple(
            Chunk(ordinal=i, text=t, kind=ElementKind.PARAGRAPH, span=TextSpan(start=0, end=len(t)))
            for i, t in enumerate(texts[at : at + chunks])
        )
        body = DocumentCleared(
            document=str(at), collection="default", submission=str(at), position=position,
            version=1, generation=1, cut="c", k=0, n=1, chunks=own,
        )  # fmt: skip
        envelope = Envelope(id=str(at), tenant="default", job=str(at))
        made.append(Record("bench", 0, at, position, f"default/{at}", envelope, body))
    return made


def handler_arm(embedder: OnnxEmbedder) -> Arm:
    settings = EmbedSettings(service_secret="x" * 32)
    collections = Collections("default")
    collections.apply("default", "default", CollectionConfigured(model=embedder.model))

    async def arm(texts: list[str]) -> object:
        waiting = records(texts)
        size = settings.embed_batch
        batches = [waiting[at : at + size] for at in range(0, len(waiting), size)]

        async def worker() -> int:
            sent = 0
            while batches:
                for publication in await embed_documents(
                    batches.pop(0), embedder=embedder, collections=collections
                ):
                    assert publication.body is not None
                    headers(publication, "bench")
                    sent += len(publication.body.model_dump_json())
            return sent

        return await asyncio.gather(*(worker() for _ in range(settings.embed_concurrency)))

    return arm


@dataclass(frozen=True)
class Speed:
    median: float
    """Texts per second."""
    spread: float
    """(largest - smallest) / median"""
    rounds: list[float]
    cpu_ms: float
    """CPU time of a text in all threads, milliseconds; hardly depends on who else is busy."""


async def race(arms: dict[str, Arm], texts: list[str]) -> dict[str, Speed]:
    """Arms take turns, in another order every round."""
    rates: dict[str, list[float]] = {name: [] for name in arms}
    costs: dict[str, list[float]] = {name: [] for name in arms}
    for arm in arms.values():
        await arm(texts)
    order = list(arms)
    for turn in range(ROUNDS):
        random.Random(turn).shuffle(order)
        for name in order:
            started, used = time.perf_counter(), time.process_time()
            await arms[name](texts)
            rates[name].append(len(texts) / (time.perf_counter() - started))
            costs[name].append((time.process_time() - used) / len(texts) * 1e3)
    return {name: speed(rates[name], costs[name]) for name in arms}


def speed(rates: list[float], costs: list[float]) -> Speed:
    median = statistics.median(rates)
    return Speed(median, (max(rates) - min(rates)) / median, rates, statistics.median(costs))


def ratio(ours: Speed, theirs: list[Speed]) -> float:
    """Median over the rounds of ours against the best of theirs in the same round."""
    best = [max(rates) for rates in zip(*(speed.rounds for speed in theirs), strict=True)]
    return float(statistics.median(a / b for a, b in zip(ours.rounds, best, strict=True)))


async def fidelity(spec: ModelSpec, texts: list[str]) -> dict[str, float]:
    """int8 against fp32: cosine of the same text, and how many of its 5 nearest are the same."""
    found: dict[str, Vectors] = {}
    for precision in ("int8", "fp32"):
        settings = ModelSettings(embed_precision=precision)
        async with open_embedder(spec.name, backend="onnx", settings=settings) as embedder:
            found[precision] = await embedder.embed_documents(texts)
    a, b = found["int8"], found["fp32"]
    near_a, near_b = nearest(a, 5), nearest(b, 5)
    shared = [len(set(x) & set(y)) / 5 for x, y in zip(near_a, near_b, strict=True)]
    return {
        "cosine_mean": float((a * b).sum(axis=1).mean()),
        "cosine_min": float((a * b).sum(axis=1).min()),
        "nn_at_5": statistics.mean(shared),
    }


def nearest(vectors: Vectors, count: int) -> list[list[int]]:
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -1)
    return [[int(i) for i in row] for row in np.argsort(-scores, axis=1)[:, :count]]


async def query_latency(embedder: OnnxEmbedder, texts: list[str]) -> dict[str, float]:
    """Milliseconds of a question, alone and while documents keep every core busy."""

    async def ask() -> list[float]:
        taken = []
        for index in range(QUERIES):
            started = time.perf_counter()
            await embedder.embed_query(f"How does proposal {index} change name resolution?")
            taken.append((time.perf_counter() - started) * 1e3)
        return taken

    await ask()
    alone = await ask()
    load = asyncio.create_task(embedder.embed_documents(texts))
    await asyncio.sleep(0.2)
    busy = await ask()
    assert not load.done(), "the load ended before the questions did"
    load.cancel()
    await asyncio.gather(load, return_exceptions=True)
    result = {}
    for name, taken in (("alone", alone), ("under_load", busy)):
        result[f"query_{name}_p50_ms"] = statistics.median(taken)
        result[f"query_{name}_p95_ms"] = statistics.quantiles(taken, n=20)[-1]
    return result


async def bench(model: str) -> dict[str, float]:
    spec, settings = model_spec(model), ModelSettings(embed_precision="int8")
    tokens = tokenizer(model)
    texts = windows(tokens, FIDELITY_TEXTS)
    timed = texts[:TEXTS]
    counts = tokens.count(timed)
    files = model_files(spec, "int8", settings)
    embedder = await OnnxEmbedder.open(spec, settings)
    default = onnxruntime.InferenceSession(str(files.onnx), providers=["CPUExecutionProvider"])
    arms: dict[str, Arm] = {
        "raw, one run at a time": raw_arm(spec, tokens, default, 1),
        PER_CORE: raw_arm(spec, tokens, load_session(files), usable_cores()),
        "embedder": embedder.embed_documents,
        "handler": handler_arm(embedder),
    }
    others = []
    for budget in BUDGETS if not QUICK else ():
        more = settings.model_copy(update={"embed_token_budget": budget})
        others.append(await OnnxEmbedder.open(spec, more))
        arms[f"embedder, {budget} tokens a batch"] = others[-1].embed_documents
    print(f"\n{model}, int8: {len(timed)} texts, {statistics.mean(counts):.0f} tokens on average, "
          f"{usable_cores()} cores, {ROUNDS} rounds, load {os.getloadavg()[0]:.1f}")  # fmt: skip
    speeds = await race(arms, timed)
    raws = [found for name, found in speeds.items() if name.startswith("raw")]
    for name, found in speeds.items():
        print(f"  {name:32} {found.median:7.1f} texts/s  spread {found.spread:4.0%}  "
            f"{found.cpu_ms:5.1f} ms CPU a text  {ratio(found, raws):5.0%} of the better raw loop")  # fmt: skip
    result = {
        "raw_texts_per_s": max(speed.median for speed in raws),
        "embedder_texts_per_s": speeds["embedder"].median,
        "embedder_to_raw": ratio(speeds["embedder"], raws),
        "embedder_cpu_to_raw": speeds[PER_CORE].cpu_ms / speeds["embedder"].cpu_ms,
        "handler_texts_per_s": speeds["handler"].median,
        "handler_to_raw": ratio(speeds["handler"], raws),
        "handler_cpu_to_raw": speeds[PER_CORE].cpu_ms / speeds["handler"].cpu_ms,
    }
    result |= await query_latency(embedder, texts * 2)
    print(f"  question: p50 {result['query_alone_p50_ms']:.1f} ms alone, "
          f"{result['query_under_load_p50_ms']:.1f} ms (p95 {result['query_under_load_p95_ms']:.1f}) "
          "while documents are embedded")  # fmt: skip
    for opened in (embedder, *others):
        await opened.close()
    result |= await fidelity(spec, texts)
    print(f"  int8 to fp32 on {len(texts)} texts: cosine {result['cosine_mean']:.4f} on average, "
          f"{result['cosine_min']:.4f} at worst; {result['nn_at_5']:.3f} of the 5 nearest shared")  # fmt: skip
    return result


async def run(models: list[str]) -> dict[str, float | str]:
    flat: dict[str, float | str] = {"bench": "embedding", "cores": usable_cores()}
    for model in models:
        for name, value in (await bench(model)).items():
            flat[f"{model}.{name}"] = round(value, 4)
    return flat


def main() -> None:
    parser = begin(__doc__, CORPUS)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of: {', '.join(MODELS)}")
    finish(asyncio.run(run(parser.parse_args().models or [DEFAULT_MODEL])))


if __name__ == "__main__":
    main()
