"""LlamaIndex: nodes into a VectorStoreIndex over PGVectorStore, embedded ten at a time."""

from urllib.parse import urlsplit

from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.schema import TextNode
from llama_index.embeddings.huggingface import HuggingFaceEmbedding
from llama_index.vector_stores.postgres import PGVectorStore
from timed import arguments, measure

PACKAGES = [
    *("llama-index-core", "llama-index-embeddings-huggingface"),
    *("llama-index-vector-stores-postgres", "sentence-transformers", "torch"),
]


def main() -> None:
    given = arguments()
    address = urlsplit(given.dsn)
    model = HuggingFaceEmbedding(model_name=given.model)
    store = PGVectorStore.from_params(
        host=address.hostname,
        port=str(address.port),
        user=address.username,
        password=address.password,
        database=address.path[1:],
        table_name="chunk",
        embed_dim=384,
    )
    storage = StorageContext.from_defaults(vector_store=store)

    def index() -> object:
        nodes = [
            TextNode(
                id_=chunk["id"],
                text=chunk["text"],
                metadata=chunk["metadata"],
                excluded_embed_metadata_keys=list(chunk["metadata"]),
            )
            for chunk in given.chunks
        ]
        return VectorStoreIndex(nodes, storage_context=storage, embed_model=model)

    measure("llamaindex", PACKAGES, given, index)


if __name__ == "__main__":
    main()
