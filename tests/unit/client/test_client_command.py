"""What goes wrong at the terminal is one sentence and an exit status, never a traceback."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from typer.testing import CliRunner

from penstock.client import cli
from penstock.client.client import Penstock
from penstock.client.commands.documents import outcomes
from penstock.client.models import Job
from penstock.local.ports import free_port


@pytest.fixture
def nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The addresses of a stack that was stopped."""
    for name in [name for name in os.environ if name.startswith("PENSTOCK_")]:
        monkeypatch.delenv(name)
    kafka = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("PENSTOCK_HOME", str(tmp_path))
    stack = {"api": f"http://127.0.0.1:{free_port()}", "kafka": kafka, "blobs": str(tmp_path)}
    (tmp_path / "stack.json").write_text(json.dumps(stack))
    return kafka


def test_publishing_while_nothing_runs_says_how_to_start_it(
    nothing_runs: str, tmp_path: Path
) -> None:
    (tmp_path / "a.md").write_text("a")
    result = CliRunner().invoke(cli.build(), ["publish", str(tmp_path / "a.md")])
    assert result.exit_code == 1
    assert result.stderr.startswith(f"no answer from Kafka at {nothing_runs}; is it running?")
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("name", "value"), [("PENSTOCK_KEY", "pk_ü_ß"), ("PENSTOCK_KEY", "a\nb"), ("PENSTOCK_URL", "x")]
)
def test_a_variable_that_cannot_be_meant_so_is_named(
    nothing_runs: str, name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    result = CliRunner().invoke(cli.build(), ["documents", "list"])
    assert result.exit_code == 1
    assert result.stderr.startswith(name)
    assert result.stderr.count("\n") == 1


def test_ctrl_c_while_the_command_is_loading_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> SimpleNamespace:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "build", interrupted)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 130


async def test_an_upload_is_limited_to_the_groups_that_were_named(tmp_path: Path) -> None:
    """Without the broker's address `publish --access` goes by this way: it was once left out."""
    (tmp_path / "a.md").write_text("secret")
    bodies: list[str] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        bodies.append((await request.aread()).decode())
        return httpx.Response(202, json={"id": "j", "kind": "document", "state": "queued"})

    async with Penstock("http://penstock") as penstock:
        penstock._http = httpx.AsyncClient(
            base_url="http://penstock", transport=httpx.MockTransport(answer)
        )
        await penstock.upload({"a.md": tmp_path / "a.md"}, access=["staff"])
    assert 'name="access"' in bodies[0]
    assert '["staff"]' in bodies[0]


def test_a_job_of_the_api_tells_of_each_document_like_the_topic() -> None:
    error = {"type": "empty", "message": "The document is empty."}
    told = [
        {"document_id": "a", "version": 1, "state": "searchable", "error": None},
        {"document_id": "b", "version": 1, "state": "failed", "error": error},
    ]
    body = {"id": "j", "kind": "document", "state": "failed", "result": {"documents": told}}
    a, b = outcomes(Job.model_validate(body), ["a", "b"])
    assert (a.outcome, a.error) == ("searchable", None)
    assert b.outcome == "failed"
    assert b.error is not None
    assert b.error.message == "The document is empty."
