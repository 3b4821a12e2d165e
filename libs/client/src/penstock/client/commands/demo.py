"""`penstock demo`: the bundled documents, five questions, one delete."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from penstock.client.client import Penstock
from penstock.client.commands.documents import follow
from penstock.client.commands.questions import print_answer
from penstock.client.console import console, fail, run, settings_of
from penstock.client.files import walk
from penstock.client.models import Answer
from penstock.client.publishing import TopicPublisher
from penstock.client.stack import Addresses, find
from penstock.common.settings import BlobSettings, KafkaSettings

DOCUMENTS = (
    "handbook.md",
    "support.html",
    "warranty.pdf",
    "calibration.docx",
    "prices.xlsx",
    "outlook.pptx",
    "outage.eml",
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, the document that holds its answer, and a word the answer must have."""

    question: str
    document: str
    word: str


QUESTIONS = (
    Asked("How many days of paid holiday does an employee have?", "handbook.md", "31"),
    Asked("How long is the warranty on the KLN-12 tide gauge?", "warranty.pdf", "seven years"),
    Asked("What is the price of the DAM-40 reservoir gauge?", "prices.xlsx", "7920"),
    Asked("What was the cause of the outage at Harlow Weir?", "outage.eml", "swan"),
)
UNANSWERABLE = "How many seats does the canteen have?"


def demo(
    samples: Annotated[Path, typer.Argument(help="Folder of the sample documents.")] = Path(
        "samples"
    ),
) -> None:
    """Publish the sample documents, ask, delete one, ask again."""
    missing = [name for name in DOCUMENTS if not (samples / name).is_file()]
    if missing:
        fail(f"{samples} lacks {', '.join(missing)}; run this in the project's folder")
    found = find()
    if found.kafka is None or found.blobs is None:
        fail("nothing runs here; start it with `penstock up`")
    run(_demo(found, samples))


async def _demo(found: Addresses, samples: Path) -> None:
    await _publish(found, samples)
    async with Penstock(found.api, found.key) as penstock:
        _title("Four questions, answers in four formats")
        for asked in QUESTIONS:
            answer = await _ask(penstock, asked.question)
            _check(answer, asked)
        _title("One that the documents do not answer")
        _check_abstained(await _ask(penstock, UNANSWERABLE))
        warranty = QUESTIONS[1]
        _title(f"Delete {warranty.document}, then ask about it again")
        job = await penstock.wait((await penstock.delete_document(warranty.document)).id)
        if job.state != "succeeded" or job.result is None:
            fail(f"the delete ended as {job.state}: {job.error and job.error.message}")
        _receipt(job.result)
        _check_abstained(await _ask(penstock, warranty.question))
    _next(found)


async def _publish(found: Addresses, samples: Path) -> None:
    _title(f"Publish {len(DOCUMENTS)} documents to the topic document.submitted.v1")
    assert found.kafka is not None
    assert found.blobs is not None
    kafka = settings_of(KafkaSettings, kafka=found.kafka)
    blobs = settings_of(BlobSettings, blobs=found.blobs)
    async with TopicPublisher(kafka, blobs, found.tenant) as publisher:
        for name, path in walk(samples / name for name in DOCUMENTS):
            await publisher.submit(name, path)
        await follow(publisher)
        for followed in publisher.followed.values():
            console.print(f"  {followed.document}: {followed.outcome}", highlight=False)
            if followed.outcome not in ("searchable", "unchanged"):
                fail(
                    f"{followed.document} ended as {followed.outcome}: "
                    f"{followed.error.message if followed.error else 'no reason was given'}"
                )


async def _ask(penstock: Penstock, question: str) -> Answer:
    console.print(f"\n? {question}", style="bold", markup=False, highlight=False)
    answer = await penstock.ask(question)
    print_answer(answer)
    return answer


def _check(answer: Answer, asked: Asked) -> None:
    """A demo that shows a wrong answer and exits with 0 would be a lie."""
    cited = {citation.document_id for citation in answer.citations}
    if answer.abstained or asked.document not in cited or asked.word not in answer.text:
        fail(f"expected an answer with {asked.word!r} that cites {asked.document}")


def _check_abstained(answer: Answer) -> None:
    if not answer.abstained:
        fail("expected no answer: nothing in the documents says it")


def _receipt(result: dict[str, object]) -> None:
    console.print("receipt", style="bold")
    for name, value in result.items():
        if isinstance(value, dict):
            console.print(f"  {name}:", highlight=False)
            for store, fate in value.items():
                text = ", ".join(f"{k} {v}" for k, v in fate.items()) if fate else ""
                console.print(f"    {store}: {text}", markup=False, highlight=False)
        else:
            console.print(f"  {name}: {value}", markup=False, highlight=False)


def _title(text: str) -> None:
    console.print(f"\n{text}", style="bold cyan", markup=False, highlight=False)


def _next(found: Addresses) -> None:
    lines: Sequence[str] = (
        "source .venv/bin/activate          puts `penstock` on your path",
        "penstock publish FOLDER --watch    your own documents",
        'penstock ask "…"                   your own questions',
        "penstock status                    processes, lag, memory",
        f"{found.api}/docs         the API",
        "penstock down                      stop it; the data stays",
    )
    _title("It is still running. Next:")
    for line in lines:
        console.print(f"  {line}", markup=False, highlight=False)
