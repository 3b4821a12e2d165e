"""What is made of a model's answers, good, broken, late or missing, over the real protocol."""

import asyncio
import json
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from starlette.responses import JSONResponse, Response, StreamingResponse

from penstock.common.events import Passage, PassageRetrieved, TextSpan
from penstock.common.failures import PermanentError
from penstock.generate.openai import OpenAIChat
from penstock.generate.ports import ModelAwayError, Written
from penstock.generate.prompting import Prompted
from penstock.generate.settings import GenerateSettings
from penstock.local.ports import free_port

pytestmark = pytest.mark.connected

KEY = "right-key"
"""That the `server` of conftest.py takes."""
GOOD = json.dumps(
    {
        "sentences": [
            {"text": "The weir is four metres high.", "passages": [1]},
            {"text": "It was built by hand.", "passages": [5]},
        ]
    }
)
EVIDENCE = (
    Passage(
        chunk_id="c", document_id="weir", version=3, title="The weir", score=1.0, rank=1,
        text="It lies upstream. The weir is four metres high.", span=TextSpan(start=10, end=57),
    ),
)  # fmt: skip
QUESTION = PassageRetrieved(question="How high is the weir?", passages=EVIDENCE)


def settings(url: str, *, key: str = KEY, timeout: float = 10.0) -> GenerateSettings:
    return GenerateSettings(
        chat_url=url, chat_model="small", chat_key=SecretStr(key), chat_timeout_s=timeout,
        database=SecretStr("postgresql://unused"), service_secret=SecretStr("s" * 32),
    )  # fmt: skip


async def answer(configured: GenerateSettings) -> list[Written]:
    async with OpenAIChat.open(configured) as chat:
        return [piece async for piece in Prompted(chat).write("acme", QUESTION, EVIDENCE)]


async def test_an_answer_is_cited_metered_and_checked(server: Any) -> None:
    """The citation quotes the passage; a marker that points nowhere is gone; tokens are counted."""
    server.replies = [GOOD]
    first, second, final = await answer(settings(server.url))
    assert first.text == "The weir is four metres high. [1]"
    assert (first.citations[0].quote, first.citations[0].start, first.citations[0].end) == (
        "The weir is four metres high.", 28, 57,
    )  # fmt: skip
    assert (second.text, second.citations) == ("It was built by hand.", ())
    assert final.text == f"{first.text} {second.text}"
    assert (final.final, final.abstained, final.prompt) == (True, False, "answer.v1")
    assert final.usage is not None
    assert (final.usage.input_tokens, final.usage.output_tokens) == (40, 9)
    assert server.requests[0]["response_format"]["type"] == "json_schema"


async def test_no_sentences_means_the_model_does_not_know(server: Any) -> None:
    """A model that finds nothing in the passages abstains."""
    server.replies = ['{"sentences": []}']
    (final,) = await answer(settings(server.url))
    assert (final.text, final.abstained) == ("I don't know.", True)


async def test_broken_output_is_repaired_once(server: Any) -> None:
    """The model hears what was wrong and gets one more try; both are paid for."""
    server.replies = ["The weir is four metres high.", f"```json\n{GOOD}\n```"]
    *_, final = await answer(settings(server.url))
    assert final.citations[0].document_id == "weir"
    assert final.usage is not None
    assert final.usage.output_tokens == 18
    assert server.requests[1]["messages"][-2]["content"] == "The weir is four metres high."


async def test_output_broken_twice_is_a_failure_that_says_so(server: Any) -> None:
    """No answer is made up from what does not parse."""
    server.replies = ["no", "still no"]
    with pytest.raises(PermanentError, match="small did not return the JSON asked for, twice"):
        await answer(settings(server.url))


async def test_a_sentence_is_there_while_the_model_still_writes(server: Any) -> None:
    """The first sentence is out before a slow stream has ended."""
    server.replies = [GOOD]
    server.hold = asyncio.Event()
    async with OpenAIChat.open(settings(server.url)) as chat:
        pieces = Prompted(chat).write("acme", QUESTION, EVIDENCE)
        first = await anext(pieces)
        assert not server.hold.is_set()
        server.hold.set()
        rest = [piece async for piece in pieces]
    assert first.text.startswith("The weir")
    assert rest[-1].final


async def test_questions_share_a_connection(server: Any) -> None:
    """No question shakes hands again: a stream is read to its very end."""
    server.replies = [GOOD, GOOD, GOOD]
    async with OpenAIChat.open(settings(server.url)) as chat:
        for _ in range(3):
            assert [piece async for piece in Prompted(chat).write("acme", QUESTION, EVIDENCE)]
    assert len(server.callers) == 3
    assert len(set(server.callers)) == 1


async def test_a_line_without_an_end_is_no_answer(server: Any) -> None:
    """The answerer's memory is not the model's to fill."""
    server.replies = [lambda: Response("data: " + "x" * 4_000_000, media_type="text/event-stream")]
    with pytest.raises(ModelAwayError, match="cannot be read"):
        await answer(settings(server.url))


async def endless(*, packed: bool) -> AsyncIterator[bytes]:
    """JSON whose end never comes."""
    pack = zlib.compressobj(wbits=31)  # gzip
    blank = b" " * 65536
    while True:
        yield pack.compress(blank) + pack.flush(zlib.Z_SYNC_FLUSH) if packed else blank
        await asyncio.sleep(0)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("status", [200, 503])
async def test_a_reply_without_an_end_is_no_answer(
    server: Any, status: int, *, packed: bool
) -> None:
    """Nor where it is not a stream: as a second try, packed, or as an error."""
    headers = {"content-encoding": "gzip"} if packed else {}
    server.replies = ["no", lambda: StreamingResponse(endless(packed=packed), status, headers)]
    async with asyncio.timeout(10):
        with pytest.raises(ModelAwayError, match="cannot be read" if status == 200 else "503"):
            await answer(settings(server.url))


async def test_the_key_that_was_set_is_the_one_that_counts(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ~/.netrc holds for the same machine is somebody else's."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login ada password other\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    server.replies = [GOOD]
    *_, final = await answer(settings(server.url))
    assert final.final


@pytest.mark.parametrize("scheme", ["http://", ""])
async def test_a_proxy_of_the_environment_is_asked(
    server: Any, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    """Unless the environment names the machine among those that need none."""
    monkeypatch.setenv("http_proxy", f"{scheme}127.0.0.1:{server.port}")
    monkeypatch.setenv("no_proxy", "")
    server.replies = [GOOD]
    with pytest.raises(PermanentError, match="404"):  # there it is: it is no proxy
        await answer(settings("http://model.invalid/v1"))
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    *_, final = await answer(settings(server.url))
    assert final.final


async def test_a_silent_model_is_away(server: Any) -> None:
    """A stream that hangs is given up and may be tried again."""
    server.replies = [GOOD]
    server.hold = asyncio.Event()
    try:
        with pytest.raises(ModelAwayError, match="silent for too long"):
            await answer(settings(server.url, timeout=0.3))
    finally:
        server.hold.set()


async def test_a_stream_that_breaks_off_is_no_answer(server: Any) -> None:
    """Half an answer never passes for a whole one."""
    server.replies = [GOOD]
    server.broken_after = 6
    with pytest.raises(ModelAwayError, match="broke"):
        await answer(settings(server.url))


@pytest.mark.parametrize(("said", "meant"), [("7", 7.0), ("9" * 400, 86_400.0), ("²", 0.0)])
async def test_a_busy_model_says_when_to_come_back(server: Any, said: str, meant: float) -> None:
    """429 is waited out as long as the endpoint asks, a day at most."""
    server.replies = [
        lambda: JSONResponse({"error": {"message": "slow"}}, 429, {"Retry-After": said})
    ]
    with pytest.raises(ModelAwayError, match="429") as caught:
        await answer(settings(server.url))
    assert caught.value.retry_after_s == meant


async def test_a_failing_model_is_tried_again(server: Any) -> None:
    """500 is the endpoint's trouble, not the question's."""
    server.replies = [lambda: JSONResponse({"error": {"message": "oops"}}, 500)]
    with pytest.raises(ModelAwayError, match="500"):
        await answer(settings(server.url))


@pytest.mark.parametrize("status", [400, 422, 500])
async def test_an_endpoint_of_the_older_form_is_asked_in_that_form(
    server: Any, status: int
) -> None:
    """llama-cpp-python refuses `json_schema` (with 500); it gets the schema as it knows it, and
    the detour is made once."""
    refusal = {"error": {"message": "'loc': ('body', 'response_format', 'type')"}}
    server.replies = [lambda: JSONResponse(refusal, status), GOOD, GOOD]
    async with OpenAIChat.open(settings(server.url)) as chat:
        for _ in range(2):
            pieces = [p async for p in Prompted(chat).write("acme", QUESTION, EVIDENCE)]
            assert pieces[-1].citations[0].document_id == "weir"
    asked = [request["response_format"] for request in server.requests]
    assert [form["type"] for form in asked] == ["json_schema", "json_object", "json_object"]
    assert asked[1]["schema"] == asked[0]["json_schema"]["schema"]


async def test_nobody_listening_is_away() -> None:
    """A model that has not started yet is waited for."""
    with pytest.raises(ModelAwayError, match="cannot be reached"):
        await answer(settings(f"http://127.0.0.1:{free_port()}/v1"))


async def test_a_wrong_key_is_not_tried_again(server: Any) -> None:
    """The operator reads that the endpoint refuses, at once."""
    with pytest.raises(PermanentError, match="401") as caught:
        await answer(settings(server.url, key="wrong"))
    assert caught.value.type == "model_refused"
