"""The offline answerer keeps silent and quotes as well as it is said to, on questions it was not fitted to."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
import answer
from reporting import DATA

pytestmark = [
    pytest.mark.connected,
    pytest.mark.skipif(
        not (DATA / answer.QUESTIONS).exists(),
        reason=f"no questions at {DATA}: set PENSTOCK_DATA to the folder of data sets",
    ),
]


async def test_it_tells_what_the_documents_answer_and_quotes_the_words_that_do() -> None:
    """Floors of the first honest run, never lowered."""
    found = await answer.measure(quick=True)
    assert found["answer.abstain_balanced_accuracy"] >= 0.78
    assert found["answer.quote_overlap"] >= 0.53
