"""Search ranks as well as it is said to: public sets through the real index and the real searcher.

The hybrid floor of scifact is held by `make bench-retrieval`: embedding its 5,183 abstracts takes
minutes. Here its BM25 leg ranks the whole corpus, and cranfield goes through all of search.
"""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from penstock.local.stack import Servers
from penstock.models import open_embedder

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
import retrieval
from reporting import DATA

pytestmark = [
    pytest.mark.connected,
    pytest.mark.skipif(
        not (DATA / "retrieval").is_dir(),
        reason=f"no retrieval sets at {DATA}: set PENSTOCK_DATA to the folder of data sets",
    ),
]


@pytest.fixture
async def bench(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[retrieval.Bench]:
    """Embeds anew: vectors that an earlier run kept would hide what has become of the embedder."""
    monkeypatch.setattr(retrieval, "CACHE", tmp_path)
    async with (
        open_embedder() as embedder,
        retrieval.opened(servers.dsns["retrieve"]) as (written, searched),
    ):
        yield retrieval.Bench(written, searched, embedder)


async def test_words_alone_find_the_abstracts_that_bear_on_a_claim(bench: retrieval.Bench) -> None:
    found = await bench.measure("scifact", ("lexical",))
    assert found["scifact.bm25.ndcg@10"] >= 0.66


async def test_both_legs_together_are_no_worse_than_the_better_one(bench: retrieval.Bench) -> None:
    found = await bench.measure("cranfield", retrieval.ALL)
    words, meaning, both = (
        found[f"cranfield.{leg}.ndcg@10"] for leg in ("bm25", "dense", "hybrid")
    )
    assert both >= max(words, meaning)
    assert min(words, meaning) > 0.3, "a leg that finds little makes the other look good"
