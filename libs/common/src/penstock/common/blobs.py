"""Blobs on the local filesystem: the bytes of one submission, below its tenant's folder.

A blob belongs to one submission and dies with it; equal bytes of two submissions are two blobs.
"""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, unquote
from uuid import uuid4

from penstock.common.failures import PermanentError, TransientError

SCHEME = "blob:"


class BlobStore:
    def __init__(self, root: Path) -> None:
        self._root = root

    async def put(
        self, tenant: str, submission: str, content: bytes | AsyncIterator[bytes], *, limit: int
    ) -> str:
        """
        Store the content and return its reference, `blob:<tenant>/<submission>/<sha256>`.

        Written beside its place and renamed into it, so that a reader sees all of it or nothing;
        putting the same again is harmless.

        Raises:
            PermanentError: more than `limit` bytes (type `too_large`).
            TransientError: the disk is full or away.
        """
        being_written = _Writing(self._folder(tenant, submission), limit)
        try:
            if isinstance(content, bytes):  # one trip off the event loop, not one for every step
                sha256 = await asyncio.to_thread(being_written.whole, content)
            else:
                await asyncio.to_thread(being_written.begin)
                async for piece in content:
                    await asyncio.to_thread(being_written.add, piece)
                sha256 = await asyncio.to_thread(being_written.finish)
        except OSError as error:
            raise TransientError(f"the blob store cannot be written: {error}") from error
        finally:
            if not being_written.finished:
                await asyncio.to_thread(being_written.undo)
        return f"{SCHEME}{_part(tenant)}/{_part(submission)}/{sha256}"

    async def read(self, ref: str) -> bytes:
        """
        Raises:
            PermanentError: no such blob (type `blob_missing`), or no such reference.
            TransientError: the disk is away.
        """
        path = self.path(ref)
        try:
            return await asyncio.to_thread(path.read_bytes)
        except FileNotFoundError as error:
            raise PermanentError(f"{ref} is not in the blob store", type="blob_missing") from error
        except OSError as error:
            raise TransientError(f"the blob store cannot be read: {error}") from error

    async def delete(self, ref: str) -> None:
        """Remove a blob; one that is gone already is fine."""
        path = self.path(ref)
        try:
            await asyncio.to_thread(path.unlink, missing_ok=True)
        except OSError as error:
            raise TransientError(f"the blob store cannot be written: {error}") from error
        await asyncio.to_thread(_remove_if_empty, path.parent)

    def path(self, ref: str) -> Path:
        """
        Where a blob lies; also the check that a reference points into this store.

        Raises:
            PermanentError: not a reference.
        """
        parts = ref.removeprefix(SCHEME).split("/")
        if not ref.startswith(SCHEME) or len(parts) != 3 or not _is_sha256(parts[2]):
            raise PermanentError(f"{ref!r} is not blob:<tenant>/<submission>/<sha256>")
        if any(part in ("", ".", "..") for part in parts):
            raise PermanentError(f"{ref!r} points outside the blob store")
        return self._root.joinpath(*map(_file_name, parts))

    def tenant_of(self, ref: str) -> str:
        """Whose blob a reference names."""
        return unquote(ref.removeprefix(SCHEME).split("/")[0])

    def _folder(self, tenant: str, submission: str) -> Path:
        return self._root.joinpath(_file_name(_part(tenant)), _file_name(_part(submission)))


class _Writing:
    """A blob on its way into its folder. Blocks; raises OSError."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._part = folder / f".{uuid4().hex}.part"
        self._limit = limit
        self._size = 0
        self._digest = hashlib.sha256()
        self._file: BinaryIO | None = None
        self.finished = False

    def whole(self, content: bytes) -> str:
        self.begin()
        self.add(content)
        return self.finish()

    def begin(self) -> None:
        self._part.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._part.open("wb")

    def add(self, piece: bytes) -> None:
        assert self._file is not None
        self._size += len(piece)
        if self._size > self._limit:
            raise PermanentError(
                f"the document has more than {self._limit} bytes; "
                "split it or raise PENSTOCK_MAX_DOCUMENT_BYTES",
                type="too_large",
            )
        self._digest.update(piece)
        self._file.write(piece)

    def finish(self) -> str:
        """On the disk and in its place; the SHA-256."""
        assert self._file is not None
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._part.replace(self._part.with_name(self._digest.hexdigest()))
        self.finished = True
        return self._digest.hexdigest()

    def undo(self) -> None:
        """What was begun and not finished leaves neither file nor folder."""
        with suppress(OSError):  # the disk that fails is what the caller is to hear of
            if self._file is not None:
                self._file.close()
            self._part.unlink(missing_ok=True)
        _remove_if_empty(self._part.parent)


def _part(name: str) -> str:
    """A name as part of a reference: one path segment that leads nowhere."""
    quoted = quote(name, safe="")
    return quoted.replace(".", "%2E") if set(quoted) <= {"."} else quoted


def _file_name(part: str) -> str:
    """Long parts are hashed: file systems end names at 255 bytes."""
    return hashlib.sha256(part.encode()).hexdigest() if len(part) > 200 else part


def _is_sha256(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        return  # another blob of the submission is still there, or it is gone already
