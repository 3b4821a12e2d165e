"""What stands at the door: keys, addresses, cursors, uploads, the table of errors."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from prometheus_client import generate_latest
from pydantic import SecretStr, ValidationError

from penstock.api.access import check_settings, is_local, new_key, split_key
from penstock.api.app import create_app
from penstock.api.deadletters import ALL, id_of, place_of
from penstock.api.errors import Problem, table
from penstock.api.models import NewCollection, NewQuestion
from penstock.api.postgres import encode
from penstock.api.problems import field
from penstock.api.removals import without
from penstock.api.routes.answering import cursor, read_cursor, wanted_wait
from penstock.api.settings import ApiSettings
from penstock.api.uploads import parts
from penstock.api.webhooks import after, lies_under

DOCS = Path(__file__).parents[3] / "docs"


def settings(**more: Any) -> ApiSettings:
    return ApiSettings(service_secret=SecretStr("s" * 32), database=SecretStr("x"), **more)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.4", "example.org", "::"])
def test_open_on_loopback_does_not_start_on_another_address(host: str) -> None:
    """Nobody opens their documents to the network by one setting."""
    with pytest.raises(ValueError, match="PENSTOCK_OPEN_ON_LOOPBACK"):
        check_settings(settings(host=host, open_on_loopback=True))
    check_settings(settings(host=host))


def test_a_malformed_operator_key_is_refused_at_start() -> None:
    """Better than a key that never opens anything."""
    with pytest.raises(ValueError, match="PENSTOCK_OPERATOR_KEY"):
        check_settings(settings(operator_key=SecretStr("secret")))
    check_settings(settings(operator_key=SecretStr(new_key()[1])))


@pytest.mark.parametrize(
    ("client", "host", "origin", "local"),
    [
        ("127.0.0.1", "127.0.0.1:8080", None, True),
        ("127.0.0.1", "localhost:8080", "http://localhost:3000", True),
        ("::1", "[::1]:8080", None, True),
        ("10.0.0.7", "127.0.0.1:8080", None, False),
        ("127.0.0.1", "rebound.example", None, False),
        ("127.0.0.1", "localhost", "https://evil.example", False),
        ("127.0.0.1", "localhost", "null", False),
        (None, "localhost", None, False),
    ],
)
def test_who_counts_as_local(
    client: str | None, host: str, origin: str | None, local: bool
) -> None:
    """A program on this machine, never a page in its browser."""
    assert is_local(client, host, origin) is local


def test_keys_are_told_from_other_texts() -> None:
    """Both halves are found again; a secret may hold an underscore."""
    key_id, key = new_key()
    assert split_key(key) == (key_id, key.split("_", 2)[2])
    assert split_key("pk_a_" + "b_" * 20) == ("a", "b_" * 20)
    assert split_key("sk_a_b") is None


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://a.example/hooks/x", True),
        ("https://a.example/hooks", True),
        ("https://a.example:443/hooks/x", True),
        ("https://a.example/hooksx", False),
        ("https://a.example/other", False),
        ("https://a.example/hooks/../other", False),
        ("https://a.example/hooks/%2e%2e/other", False),
        ("https://a.example.evil.org/hooks/", False),
        ("https://a.example@evil.org/hooks/", False),
        ("https://u:p@a.example/hooks/", False),
        ("http://a.example/hooks/", False),
        ("https://a.example:8443/hooks/", False),
        ("https://a.example:port/hooks/", False),
        ("file:///etc/passwd", False),
    ],
)
def test_webhooks_go_to_allowed_addresses_alone(url: str, allowed: bool) -> None:
    """The API cannot be sent to call what only it can reach."""
    assert lies_under(url, "https://a.example/hooks/") is allowed


def test_webhooks_are_given_up_after_three_days() -> None:
    """Pauses grow, then end."""
    pauses = [after(attempt) for attempt in range(1, 10)]
    assert pauses[-1] is None
    known = [pause for pause in pauses if pause is not None]
    assert known == sorted(known)
    assert 2 * 86_400 < sum(known) < 4 * 86_400


def test_cursors_are_ours_or_refused() -> None:
    """A made-up cursor is a 422, never a 500."""
    assert read_cursor(cursor("a", 7), str, int) == ["a", 7]
    assert read_cursor(None, str) is None
    for text in ("é", "!!", "AAAA", cursor("a"), cursor(1, 2), "e30"):
        with pytest.raises(Problem, match="cursor"):
            read_cursor(text, str, int)


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [(None, 0), ("wait=5", 5), ("respond-async, wait=9", 9), ("wait=999", 60), ("wait=x", 0)],
)
def test_a_preferred_wait_is_bounded(prefer: str | None, seconds: int) -> None:
    """Nobody holds a connection for an hour."""
    assert wanted_wait(prefer) == seconds


def test_ids_of_dead_letters_name_our_topics_alone() -> None:
    """An operator of one tenant cannot read another topic through this door."""
    name = next(iter(ALL))
    assert place_of(id_of((name, 0, 12))) == (name, 0, 12)
    for text in ("question.asked.v1:0:1", "x.dlq:0:1", f"{name}:0", f"{name}:-1:3", ""):
        assert place_of(text) is None


def test_an_answer_keeps_what_it_says_of_other_documents() -> None:
    """A delete takes the deleted document's words, and no more."""

    def of(document: str, version: int) -> dict[str, Any]:
        return {"document_id": document, "version": version, "quote": "q", "title": "t"}

    result = {"text": "said", "citations": [of("a", 1), of("b", 1)], "passages": [of("a", 3)]}
    purged = without(result, "a", 2)
    assert purged["text"] != "said"
    assert [c["quote"] == "q" for c in purged["citations"]] == [False, True]
    assert purged["passages"] == [of("a", 3)]
    assert without(result, "c", 9) == result


async def _body(content: bytes, step: int) -> AsyncIterator[bytes]:
    for start in range(0, len(content), step):
        yield content[start : start + step]


BODY = (
    b'--B\r\nContent-Disposition: form-data; name="files"; filename="a.md"\r\n\r\n'
    b"one\r\n--not the boundary\r\n\r\n--B\r\n"
    b'Content-Disposition: form-data; name="title"\r\n\r\nT\xc3\xa9\r\n--B\r\n'
    b'Content-Disposition: form-data; name="files"; filename="\xc3\xa9.md"\r\n\r\n\r\n--B--\r\n'
)


@pytest.mark.parametrize("step", [1, 7, 4096])
async def test_uploads_come_whole_however_they_are_cut(step: int) -> None:
    """The network cuts where it likes."""
    found = []
    async for part in parts("multipart/form-data; boundary=B", _body(BODY, step)):
        content = b"".join([piece async for piece in part.pieces])
        found.append((part.name, part.filename, content))
    assert found == [
        ("files", "a.md", b"one\r\n--not the boundary\r\n"),
        ("title", None, "Té".encode()),
        ("files", "é.md", b""),
    ]


async def test_a_part_that_is_not_read_is_skipped() -> None:
    """The next one begins where it should."""
    seen = [part.name async for part in parts("multipart/form-data; boundary=B", _body(BODY, 5))]
    assert seen == ["files", "title", "files"]


@pytest.mark.parametrize(
    ("content_type", "content"),
    [
        ("multipart/form-data", BODY),
        ("multipart/form-data; boundary=B", b"nonsense"),
        ("multipart/form-data; boundary=B", BODY[:120]),
        ("multipart/form-data; boundary=B", b"--B\r\nContent-Type: text/plain\r\n\r\nx\r\n--B--"),
    ],
)
async def test_a_malformed_upload_is_a_clear_error(content_type: str, content: bytes) -> None:
    """Never a document cut short in silence."""

    async def take() -> list[str]:
        return [await p.text() async for p in parts(content_type, _body(content, 50))]

    with pytest.raises(Problem, match=r"multipart|part"):
        await take()


def test_the_page_of_errors_is_up_to_date() -> None:
    """`make contracts` writes it from the table; the two cannot disagree."""
    assert (DOCS / "errors.md").read_text() == table() + "\n"


def test_openapi_names_every_call_and_its_problems() -> None:
    """A client can be generated from it."""
    described = create_app().openapi()
    calls = {f"{m.upper()} {path}" for path, ms in described["paths"].items() for m in ms}
    assert {
        "POST /v1/documents", "GET /v1/documents", "GET /v1/documents/{document}",
        "DELETE /v1/documents/{document}", "GET /v1/documents/{document}/text", "POST /v1/search",
        "POST /v1/questions", "GET /v1/jobs", "GET /v1/jobs/{job}", "POST /v1/jobs/{job}/cancel",
        "GET /v1/jobs/{job}/events", "GET /v1/dead-letters", "GET /v1/quarantine",
        "POST /v1/collections", "POST /v1/keys", "DELETE /v1/keys/{key}",
    } <= calls  # fmt: skip
    responses = described["paths"]["/v1/questions"]["post"]["responses"]
    assert "application/problem+json" in responses["default"]["content"]


def test_text_with_nul_characters_can_be_kept() -> None:
    """Extracted text may hold them, jsonb may not; a backslash before them stays what it is."""
    assert orjson.loads(encode({"t": "a\0b"})) == {"t": "a\ufffdb"}
    assert orjson.loads(encode({"t": "\\u0000 \\\\\0"})) == {"t": "\\u0000 \\\\\ufffd"}


@pytest.mark.parametrize("question", ["", "  ", "a\0b", "x" * 4_001])
def test_a_question_that_cannot_be_searched_is_refused_at_the_door(question: str) -> None:
    """Not dead-lettered three stages later."""
    with pytest.raises(ValidationError):
        NewQuestion(question=question)


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ({"year": {"near": 1}}, "'near'"),
        ({"year": {}}, "operator"),
        ({"year": {"in": []}}, "1 to 100"),
        ({"year": {"in": 7}}, "list"),
        ({"year": [7]}, "list"),
        ({"year": None}, "numbers"),
        ({"year": {"gte": {"a": 1}}}, "numbers"),
    ],
)
def test_an_unknown_filter_is_refused_by_name(wanted: dict[str, Any], says: str) -> None:
    """Never silently ignored."""
    with pytest.raises(ValidationError, match=says):
        NewQuestion(question="q", filter=wanted)


def test_a_known_filter_is_taken_as_it_is() -> None:
    """All three forms."""
    wanted = {"a": "x", "b": {"in": [1, "y"]}, "c": {"gte": 1, "lt": 2.5}, "d": True}
    assert NewQuestion(question="q", filter=wanted).filter == wanted


@pytest.mark.parametrize("path", ["/v1/questions", "/v1/search", "/v1/keys", "/v1/documents"])
async def test_nobody_fills_the_memory_before_showing_a_key(path: str) -> None:
    """An endless body is refused after a megabyte, or not read at all."""
    taken = 0
    statuses: list[int] = []

    async def endless() -> dict[str, Any]:
        nonlocal taken
        taken += 65_536
        more = taken < 50 * 1024 * 1024
        return {"type": "http.request", "body": b" " * 65_536, "more_body": more}

    async def heard(message: Any) -> None:
        statuses.extend([message["status"]] if "status" in message else [])

    scope = {
        "type": "http", "method": "POST", "path": path, "raw_path": path.encode(),
        "query_string": b"", "headers": [(b"content-type", b"application/json")],
        "client": ("10.0.0.7", 1), "server": ("a", 80), "scheme": "http", "http_version": "1.1",
    }  # fmt: skip
    await create_app()(scope, endless, heard)
    assert statuses[0] in (413, 503)  # 503: it is not started, and did not read on
    assert taken < 2 * 1024 * 1024


async def test_made_up_methods_do_not_fill_the_metrics() -> None:
    """Nobody needs a key to send one, and a label is never forgotten."""

    async def nothing() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def ignored(message: Any) -> None:
        assert message["type"].startswith("http.response")

    app = create_app()
    for number in range(20):
        scope = {
            "type": "http", "method": f"MADEUP{number}", "path": "/nothing",
            "raw_path": b"/nothing", "query_string": b"", "headers": [], "client": ("10.0.0.7", 1),
            "server": ("a", 80), "scheme": "http", "http_version": "1.1",
        }  # fmt: skip
        await app(scope, nothing, ignored)
    assert b"MADEUP" not in generate_latest()
    assert b'method="other"' in generate_latest()


@pytest.mark.parametrize(
    ("location", "name"),
    [
        (("body", "query"), "query"),
        (("body", "documents", 0, "text"), "documents.0.text"),
        (("query", "limit"), "limit"),
        (("query",), "query"),
        (("body",), "the request"),
    ],
)
def test_an_error_names_the_field_even_if_it_is_called_query(
    location: tuple[str | int, ...], name: str
) -> None:
    assert field(location) == name


def test_a_collection_with_a_model_that_does_not_exist_is_refused_at_the_door() -> None:
    with pytest.raises(ValidationError, match="must be one of bge-small"):
        NewCollection(name="notes", model="gpt-9")
