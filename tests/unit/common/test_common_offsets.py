"""A restart never skips an unfinished record, whatever order the records finish in."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.common.offsets import Progress


@given(st.permutations(range(10)), st.integers(0, 10))
def test_what_is_committed_is_the_lowest_unfinished(order: list[int], finished: int) -> None:
    progress = Progress()
    for offset in range(10):
        progress.taken(offset)
    for offset in order[:finished]:
        progress.finished(offset)
    unfinished = set(order[finished:])
    assert progress.committable == min(unfinished, default=10)


def test_nothing_taken_commits_nothing() -> None:
    assert Progress().news is None


def test_only_news_is_committed() -> None:
    progress = Progress()
    progress.taken(5)
    progress.finished(5)
    assert progress.news == 6
    progress.committed = 6
    assert progress.news is None


def test_gaps_left_by_compaction_do_not_hold_back_the_commit() -> None:
    progress = Progress()
    for offset in (3, 9):
        progress.taken(offset)
        progress.finished(offset)
    assert progress.committable == 10
