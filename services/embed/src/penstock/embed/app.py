"""The embed process: one consumer group, one model."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from penstock.common import events
from penstock.common.consumer import Stage
from penstock.common.pacing import Pace
from penstock.common.service import Service, run
from penstock.common.topics import DOCUMENT_CLEARED
from penstock.embed.handlers import embed_documents
from penstock.embed.settings import EmbedSettings
from penstock.models import open_embedder


def build(settings: EmbedSettings) -> Service:
    """The process, ready to run; the model is opened when it starts."""
    stage = Stage("embed", settings, pace=Pace())

    @asynccontextmanager
    async def resources() -> AsyncIterator[None]:
        async with open_embedder(settings.embed_model) as embedder:
            stage.on(
                DOCUMENT_CLEARED,
                partial(embed_documents, embedder=embedder, collections=stage.collections),
                batch=settings.embed_batch,
                concurrency=settings.embed_concurrency,
                stage=events.Stage.EMBED,
            )
            yield

    return Service("embed", settings, stage=stage, resources=resources)


def main() -> None:
    run(build(EmbedSettings()))


if __name__ == "__main__":
    main()
