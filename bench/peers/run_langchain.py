"""LangChain: documents into PGVector, in the one call that its documentation shows."""

from langchain_core.documents import Document
from langchain_huggingface import HuggingFaceEmbeddings
from langchain_postgres import PGVector
from timed import arguments, measure

PACKAGES = [
    *("langchain-core", "langchain-huggingface", "langchain-postgres"),
    *("sentence-transformers", "torch"),
]


def main() -> None:
    given = arguments()
    store = PGVector(
        embeddings=HuggingFaceEmbeddings(model_name=given.model),
        collection_name="chunks",
        connection=given.dsn.replace("postgresql://", "postgresql+psycopg://", 1),
    )

    def index() -> object:
        documents = [
            Document(page_content=chunk["text"], metadata=chunk["metadata"])
            for chunk in given.chunks
        ]
        return store.add_documents(documents, ids=[chunk["id"] for chunk in given.chunks])

    measure("langchain", PACKAGES, given, index)


if __name__ == "__main__":
    main()
