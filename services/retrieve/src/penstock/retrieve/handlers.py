"""What the indexer does with each topic. Handlers are the methods of `Index`."""

from penstock.common.consumer import Stage
from penstock.common.events import Stage as StageName
from penstock.common.topics import DOCUMENT_EMBEDDED, DOCUMENT_REJECTED, DOCUMENT_RETIRED
from penstock.retrieve.indexer import Index

BATCH = 256
"""Records in one call: a poll's worth, many documents in one transaction."""


def register(stage: Stage, index: Index) -> None:
    """Subscribe the index. Deletes and rejections are done for cancelled jobs too."""
    stage.on(DOCUMENT_EMBEDDED, index.write, batch=BATCH, stage=StageName.INDEX)
    stage.on(DOCUMENT_RETIRED, index.retire, batch=BATCH, stage=StageName.INDEX, cancellable=False)
    stage.on(DOCUMENT_REJECTED, index.reject, batch=BATCH, stage=StageName.INDEX, cancellable=False)
