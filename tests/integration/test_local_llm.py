"""`penstock llm` on a stack that runs: the answerer gets its settings without a new `penstock up`.

The model's own server is tried by hand: see docs/how-to/local-llm.md."""

import asyncio
from pathlib import Path

import pytest

from penstock.local.launcher import down, up
from penstock.local.llm import answerer, settings_file
from penstock.local.process import last_lines
from penstock.local.services import ServiceSpec
from penstock.local.state import StackState, State
from penstock.local.supervisor import Options

pytestmark = pytest.mark.connected

STAND_IN = (str(Path(__file__).with_name("stand_in.py")), "PENSTOCK_CHAT_URL")


async def test_a_running_answerer_is_given_the_model_and_has_it_taken_away(tmp_path: Path) -> None:
    names = ("api", "answerer", "embed")
    services = tuple(ServiceSpec(name=name, argv=STAND_IN) for name in names)
    options = Options(
        api_port=0, kafka_port=0, postgres_port=0, scale={"answerer": 2}, services=services
    )
    before = await up(tmp_path, options, lambda _: None)
    try:
        settings_file.give(tmp_path, {"PENSTOCK_CHAT_URL": "http://127.0.0.1:8090/v1"})
        assert await answerer.restart(tmp_path) == ["answerer", "answerer-2"]
        after = StackState.read(tmp_path)
        assert after is not None
        assert after.processes["answerer"].state is State.READY
        assert after.processes["embed"] == before.processes["embed"], "the others go on"
        settings_file.take_back(tmp_path)
        await answerer.restart(tmp_path)
    finally:
        await asyncio.to_thread(down, tmp_path)
    assert last_lines(tmp_path / "logs" / "answerer.log") == [
        "PENSTOCK_CHAT_URL=None",
        "PENSTOCK_CHAT_URL=http://127.0.0.1:8090/v1",
        "PENSTOCK_CHAT_URL=None",
    ]  # fmt: skip
    assert await answerer.restart(tmp_path) == []
