"""The bars show what has really happened to each submission."""

from typing import Any

import pytest

from penstock.client.publishing import Followed, _progress
from penstock.common.events import Failure, JobProgressed, ProgressState, Stage


def word(stage: Stage, state: ProgressState = ProgressState.DONE, **more: Any) -> JobProgressed:
    return JobProgressed(stage=stage, state=state, **more)


def test_a_stage_is_done_when_all_its_batches_are() -> None:
    followed = Followed("a")
    _progress(followed, word(Stage.INGEST))
    _progress(followed, word(Stage.GUARD, k=1, n=2))
    assert followed.stage_done(Stage.INGEST)
    assert not followed.stage_done(Stage.GUARD)
    _progress(followed, word(Stage.GUARD, k=1, n=2))
    assert not followed.stage_done(Stage.GUARD)
    _progress(followed, word(Stage.GUARD, k=0, n=2))
    assert followed.stage_done(Stage.GUARD)
    assert not followed.stage_done(Stage.INDEX)


@pytest.mark.parametrize("state", [ProgressState.UNCHANGED, ProgressState.SUPERSEDED])
def test_nothing_left_to_do_is_an_outcome(state: ProgressState) -> None:
    followed = Followed("a")
    _progress(followed, word(Stage.INGEST, state))
    assert followed.outcome == state.value
    assert followed.stage_done(Stage.INDEX)


def test_a_failure_keeps_its_sentence_and_stops_no_bar_at_full() -> None:
    followed = Followed("a")
    error = Failure(type="encrypted", message="it is encrypted")
    _progress(followed, word(Stage.INGEST, ProgressState.DEAD_LETTERED, error=error))
    assert (followed.outcome, followed.error) == ("failed", error)
    assert not followed.stage_done(Stage.INDEX)
