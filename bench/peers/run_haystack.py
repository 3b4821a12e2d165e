"""Haystack: a pipeline of document embedder and writer into PgvectorDocumentStore."""

from haystack import Document, Pipeline
from haystack.components.writers import DocumentWriter
from haystack.utils import Secret
from haystack_integrations.components.embedders.sentence_transformers import (
    SentenceTransformersDocumentEmbedder,
)
from haystack_integrations.document_stores.pgvector import PgvectorDocumentStore
from timed import arguments, measure

PACKAGES = [
    *("haystack-ai", "sentence-transformers-haystack", "pgvector-haystack"),
    *("sentence-transformers", "torch"),
]


def main() -> None:
    given = arguments()
    store = PgvectorDocumentStore(
        connection_string=Secret.from_token(given.dsn),
        embedding_dimension=384,
        vector_function="cosine_similarity",
    )
    embedder = SentenceTransformersDocumentEmbedder(model=given.model, progress_bar=False)
    pipeline = Pipeline()
    pipeline.add_component("embedder", embedder)
    pipeline.add_component("writer", DocumentWriter(document_store=store))
    pipeline.connect("embedder.documents", "writer.documents")
    pipeline.warm_up()

    def index() -> object:
        documents = [
            Document(id=chunk["id"], content=chunk["text"], meta=chunk["metadata"])
            for chunk in given.chunks
        ]
        return pipeline.run({"embedder": {"documents": documents}})

    measure("haystack", PACKAGES, given, index)


if __name__ == "__main__":
    main()
