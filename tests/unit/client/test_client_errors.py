"""Whatever the server says, the user gets a type and a sentence."""

import json
from pathlib import Path

import httpx
import pytest

from penstock.client.errors import ApiError, PenstockError, from_response
from penstock.client.stack import find


def test_a_problem_is_read() -> None:
    body = {"type": "https://penstock.dev/errors/too_large", "detail": "too large", "limit": 5}
    error = from_response(httpx.Response(413, json=body))
    assert (error.status, error.type, error.detail) == (413, "too_large", "too large")
    assert error.body["limit"] == 5


def test_a_job_that_failed_shows_no_status_of_a_request_that_went_well() -> None:
    assert str(ApiError(200, "expired", "not finished", {})) == "not finished (expired)"
    assert str(ApiError(404, "not_found", "no job", {})) == "no job (404 not_found)"


@pytest.mark.parametrize("content", [b"<html>bad gateway</html>", b"[1]", b""])
def test_what_is_no_problem_is_quoted(content: bytes) -> None:
    error = from_response(httpx.Response(502, content=content))
    assert (error.status, error.type) == (502, "http_error")
    assert error.detail


def test_addresses_come_from_the_environment_before_the_stack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PENSTOCK_URL", "PENSTOCK_KAFKA", "PENSTOCK_BLOBS", "PENSTOCK_KEY"):
        monkeypatch.delenv(name, raising=False)
    stack = {"api": "http://127.0.0.1:8081", "kafka": "127.0.0.1:9093", "blobs": "b"}
    (tmp_path / "stack.json").write_text(json.dumps(stack))
    assert find(tmp_path).api == "http://127.0.0.1:8081"
    monkeypatch.setenv("PENSTOCK_URL", "https://penstock.example")
    assert find(tmp_path).api == "https://penstock.example"
    assert find(tmp_path / "nowhere").kafka is None


def test_a_broken_stack_file_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "stack.json").write_text("{")
    with pytest.raises(PenstockError, match="penstock up"):
        find(tmp_path)
