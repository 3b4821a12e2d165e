"""Who follows a job hears its end, whatever the API goes through meanwhile."""

from collections.abc import Callable

import httpx
import pytest

from penstock.client import ApiError, Penstock


def following(answer: Callable[[httpx.Request], httpx.Response]) -> Penstock:
    penstock = Penstock("http://penstock")
    penstock._http = httpx.AsyncClient(
        base_url="http://penstock", transport=httpx.MockTransport(answer)
    )
    return penstock


def problem(status: int) -> httpx.Response:
    return httpx.Response(status, json={"type": "about:blank#unavailable", "detail": "no"})


async def test_an_api_that_is_starting_is_followed_from_where_the_stream_broke() -> None:
    asked: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers.get("last-event-id"))
        if len(asked) == 1:
            return httpx.Response(200, text='id: 7\nevent: progress\ndata: {"done": 1}\n\n')
        if len(asked) == 2:
            return problem(503)
        return httpx.Response(200, text='id: 8\nevent: end\ndata: {"state": "succeeded"}\n\n')

    async with following(answer) as penstock:
        events = [event.id async for event in penstock.job_events("j")]
    assert events == ["7", "8"]
    assert asked == [None, "7", "7"]


async def test_a_job_that_may_not_be_followed_is_an_error_at_once() -> None:
    async with following(lambda _: problem(403)) as penstock:
        with pytest.raises(ApiError):
            _ = [event async for event in penstock.job_events("j")]
