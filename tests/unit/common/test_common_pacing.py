"""A lone record is never kept waiting; a stream is taken in gulps."""

from penstock.common.pacing import Pace


def test_a_burst_waits_for_nothing_and_a_stream_is_held_to_its_rate() -> None:
    pace = Pace(per_s=10, burst=5)
    assert [pace.pause(100.0) for _ in range(5)] == [0, 0, 0, 0, 0]
    now, polls = 100.0, 0
    while now < 110.0:
        now += pace.pause(now) or 0.001
        polls += 1
    assert 95 <= polls <= 105


def test_after_a_quiet_while_the_burst_is_there_again() -> None:
    pace = Pace(per_s=10, burst=5)
    for _ in range(8):
        pace.pause(100.0)
    assert pace.pause(100.0) > 0
    assert [pace.pause(200.0) for _ in range(5)] == [0, 0, 0, 0, 0]
