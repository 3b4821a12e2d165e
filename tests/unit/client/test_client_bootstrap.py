"""`penstock bootstrap` says what is wrong before it asks a server, and never overwrites secrets."""

import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from penstock.client.commands.bootstrap import app, compose_secrets


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PENSTOCK_HOME", raising=False)


def test_secrets_are_written_once_for_their_owner_alone(tmp_path: Path) -> None:
    """New ones would lock the services out of the database that knows the old."""
    runner = CliRunner()
    assert runner.invoke(app, ["env"]).exit_code == 0
    written = (tmp_path / ".env").read_text()
    assert [line.split("=")[0] for line in written.splitlines()] == list(compose_secrets())
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600
    again = runner.invoke(app, ["env"])
    assert again.exit_code == 1
    assert "is there already" in again.stderr
    assert (tmp_path / ".env").read_text() == written
    assert runner.invoke(app, ["env", "--file", "no/such/folder/.env"]).exit_code == 1


def test_lines_for_kafkas_own_tool_need_no_broker() -> None:
    done = CliRunner().invoke(
        app, ["acls", "--commands", "--publisher", "User:erp", "--principal", "User:CN={process}"]
    )
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert all(line.startswith("kafka-acls.sh --bootstrap-server ") for line in lines)
    assert any("User:CN=embed" in line for line in lines)
    assert sum("User:erp" in line for line in lines) == 2


def test_one_user_for_all_processes_is_not_what_is_meant() -> None:
    done = CliRunner().invoke(app, ["acls", "--commands", "--principal", "User:penstock"])
    assert done.exit_code == 1
    assert "{process}" in done.stderr


def test_every_missing_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_ADMIN_DATABASE", "postgresql://admin@db/postgres")
    done = CliRunner().invoke(app, ["database"])
    assert done.exit_code == 1
    assert "PENSTOCK_ADMIN_DATABASE" not in done.stderr
    for schema in ("API", "INGEST", "GUARD", "RETRIEVE", "GENERATE"):
        assert f"PENSTOCK_{schema}_PASSWORD: Field required" in done.stderr
