"""Blobs of different submissions never touch each other, and no name leads out of the store."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from penstock.common.blobs import BlobStore
from penstock.common.failures import PermanentError, TransientError


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_what_is_put_is_read_back(store: BlobStore) -> None:
    ref = await store.put("acme", "s/1", pieces(b"one ", b"two"), limit=100)
    assert await store.read(ref) == b"one two"
    assert ref.startswith("blob:acme/s%2F1/")


async def test_equal_bytes_of_two_submissions_die_alone(store: BlobStore) -> None:
    one = await store.put("acme", "s1", b"same", limit=100)
    two = await store.put("acme", "s2", b"same", limit=100)
    await store.delete(one)
    assert await store.read(two) == b"same"
    with pytest.raises(PermanentError, match="not in the blob store"):
        await store.read(one)
    await store.delete(one)


async def test_too_large_is_refused_and_leaves_nothing(store: BlobStore, tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="more than 3 bytes") as caught:
        await store.put("acme", "s1", pieces(b"ab", b"cd"), limit=3)
    assert caught.value.type == "too_large"
    assert list(tmp_path.glob("blobs/acme/*")) == []


async def test_a_disk_that_fails_is_waited_for(store: BlobStore, tmp_path: Path) -> None:
    """A file where the folder should be is an error that cleaning up meets as well."""
    (tmp_path / "blobs").write_text("no folder")
    with pytest.raises(TransientError, match="cannot be written"):
        await store.put("acme", "s1", b"ab", limit=3)


@pytest.mark.parametrize(
    "ref",
    [
        "blob:../../etc/passwd",
        f"blob:../x/{'0' * 64}",
        f"blob:acme/../{'0' * 64}",
        f"blob:acme//{'0' * 64}",
        f"file:acme/s/{'0' * 64}",
        "blob:acme/s/short",
    ],
)
async def test_a_reference_out_of_the_store_is_refused(store: BlobStore, ref: str) -> None:
    with pytest.raises(PermanentError):
        await store.read(ref)


@pytest.mark.parametrize("name", ["..", ".", "../../x", "a/b", "ü" * 300])
async def test_strange_names_stay_inside(store: BlobStore, tmp_path: Path, name: str) -> None:
    ref = await store.put(name, name, b"x", limit=10)
    assert await store.read(ref) == b"x"
    assert store.path(ref).resolve().is_relative_to((tmp_path / "blobs").resolve())
