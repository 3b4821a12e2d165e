"""Where bytes may come from: never an arbitrary file or host."""

from pathlib import Path

import pytest

from penstock.common.events import MAX_INLINE_TEXT_BYTES, DocumentSubmitted
from penstock.common.failures import PermanentError
from penstock.ingest.failures import Unreadable
from penstock.ingest.sources import MAX_METADATA_BYTES, UriReader, check


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "exactly one of text, uri and blob, not none"),
        ({"text": "a", "uri": "b"}, "not text and uri"),
        ({"text": "x" * (MAX_INLINE_TEXT_BYTES + 1)}, "POST /v1/documents"),
        ({"text": "a", "metadata": {"a": "x" * MAX_METADATA_BYTES}}, "metadata and access"),
    ],
)
def test_a_submission_that_contradicts_itself_is_refused(
    fields: dict[str, object], message: str
) -> None:
    with pytest.raises(PermanentError, match=message):
        check(DocumentSubmitted.model_validate(fields))


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "a b.txt").write_text("hello")
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "docs-private").mkdir()
    (tmp_path / "docs-private" / "a.txt").write_text("secret")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    return folder


async def test_a_file_below_an_allowed_prefix_is_read(docs: Path) -> None:
    reader = UriReader([f"file://{docs}"], limit=5)
    assert await reader.read(f"file://{docs}/inner/a%20b.txt") == b"hello"


@pytest.mark.parametrize(
    "path", ["/../secret.txt", "/inner/../../secret.txt", "/link.txt", "-private/a.txt", "/%2e%2e/secret.txt"]
)  # fmt: skip
async def test_a_file_outside_is_refused_however_it_is_written(docs: Path, path: str) -> None:
    with pytest.raises(Unreadable, match="PENSTOCK_URI_PREFIXES") as caught:
        await UriReader([f"file://{docs}"], limit=100).read(f"file://{docs}{path}")
    assert caught.value.type == "uri_refused"


async def test_a_file_over_the_limit_a_folder_and_nothing_say_what_they_are(docs: Path) -> None:
    reader = UriReader([f"file://{docs}"], limit=4)
    for path, message in (
        ("/inner/a%20b.txt", "more than 4 bytes"),
        ("/inner", "directory"),
        ("/none", "cannot be read: No such file"),
    ):
        with pytest.raises(Unreadable, match=message):
            await reader.read(f"file://{docs}{path}")


@pytest.mark.parametrize(
    "uri",
    [
        "https://wiki.example.evil/docs/a", "https://wiki.example:444/docs/a",
        "http://wiki.example/docs/a", "https://wiki.example/docs-private",
        "https://wiki.example/docs/../x", "https://wiki.example/docs/%2e%2e/x",
        "https://user@wiki.example/docs/a", "ftp://wiki.example/docs/a", "/etc/passwd",
        "file:///etc/passwd", "https://169.254.169.254/", "https://wiki.example/docs\\..\\x",
        "http://[::1", "https://wiki.example\u2100/docs/a", "file:///a%00b", "https://wiki.example:x/docs/",
    ],
)  # fmt: skip
async def test_another_host_port_scheme_or_path_is_refused(uri: str) -> None:
    with pytest.raises(Unreadable) as caught:
        await UriReader(["https://wiki.example/docs/"], limit=10).read(uri)
    assert caught.value.type == "uri_refused"
    with pytest.raises(Unreadable):
        await UriReader([], limit=10).read(uri)
