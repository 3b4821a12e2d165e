"""Bad code stops the consumer before it can empty a topic into its dead letters."""

from penstock.common.failures import DlqLimit, RetryPolicy


def test_the_limit_is_reached_by_failures_in_a_row_and_lifted_by_one_success() -> None:
    limit = DlqLimit(window=3)
    for _ in range(3):
        assert not limit.reached
        limit.failed()
    assert limit.reached
    limit.succeeded()
    assert not limit.reached


def test_pauses_grow_and_stay_bounded() -> None:
    policy = RetryPolicy(first=0.1, longest=5.0)
    assert all(0.05 <= policy.pause(1) <= 0.1 for _ in range(50))
    assert all(2.5 <= policy.pause(60) <= 5.0 for _ in range(50))
