"""Where the bytes of a submission come from: itself, the blob store, or an allowed uri."""

import asyncio
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

import httpx

from penstock.common.events import MAX_INLINE_TEXT_BYTES, DocumentSubmitted
from penstock.common.failures import PermanentError
from penstock.ingest.failures import Unreadable

MAX_METADATA_BYTES = 32 * 1024
"""Title, metadata and access groups travel with every batch of chunks."""

_REDIRECTS = 3
_ATTEMPTS = 3
_PAUSE_S = 0.5
_BUSY = (429, 500, 502, 503, 504)


def check(body: DocumentSubmitted) -> None:
    """Refuse (`PermanentError`) a submission that contradicts itself or cannot travel."""
    given = [name for name in ("text", "uri", "blob") if getattr(body, name) is not None]
    if len(given) != 1:
        said = " and ".join(given) or "none of them"
        raise PermanentError(f"give exactly one of text, uri and blob, not {said}")
    if body.text is not None and len(body.text.encode()) > MAX_INLINE_TEXT_BYTES:
        raise PermanentError(
            f"text has more than {MAX_INLINE_TEXT_BYTES} bytes; "
            "submit it over POST /v1/documents, which stores it as a blob",
            type="too_large",
        )
    around = body.model_copy(update={"text": None}).model_dump_json()
    if len(around.encode()) > MAX_METADATA_BYTES:
        raise PermanentError(
            f"title, metadata and access have more than {MAX_METADATA_BYTES} bytes together",
            type="too_large",
        )


@dataclass(frozen=True, slots=True)
class UriReader:
    """Reads what a uri names, if the operator allowed its prefix: never another file or host."""

    prefixes: Sequence[str]
    limit: int
    """Bytes."""
    timeout_s: float = 60.0

    async def read(self, uri: str) -> bytes:
        """Raises `Unreadable` with what is wrong with the uri or what lies behind it."""
        if self._split(uri).scheme == "file":
            return await asyncio.to_thread(self._read_file, self._allowed_file(uri))
        self._allow_url(uri)
        try:
            async with asyncio.timeout(self.timeout_s):
                return await self._fetch(uri)
        except TimeoutError as error:
            message = f"{uri} was not read within {self.timeout_s:.0f} s."
            raise Unreadable(message, type="uri_failed") from error

    def _split(self, uri: str) -> SplitResult:
        try:
            return urlsplit(uri)
        except ValueError as error:  # no uri at all: `http://[`
            raise self._refused(uri) from error

    # ------------------------------------------------------------ files

    def _allowed_file(self, uri: str) -> Path:
        parts = urlsplit(uri)
        named = unquote(parts.path)
        if "\0" in named:
            raise self._refused(uri)
        path = Path(os.path.realpath(named))
        for prefix in self.prefixes:
            allowed = urlsplit(prefix)
            if allowed.scheme != "file" or parts.netloc not in ("", "localhost"):
                continue
            if path.is_relative_to(os.path.realpath(unquote(allowed.path))):
                return path
        raise self._refused(uri)

    def _read_file(self, path: Path) -> bytes:
        try:
            # Links were resolved; one put in the way since is not followed.
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(descriptor, "rb") as file:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise Unreadable(f"{path.name} is not a regular file.", type="uri_failed")
                data = file.read(self.limit + 1)
        except OSError as error:
            raise Unreadable(
                f"The file {path.name} cannot be read: {error.strerror}.", type="uri_failed"
            ) from error
        return self._bounded(data, path.name)

    # ------------------------------------------------------------ http

    def _allow_url(self, uri: str) -> None:
        parts = self._split(uri)
        segments = unquote(parts.path).split("/")
        plain = parts.username is None and ".." not in segments and "\\" not in uri
        for prefix in self.prefixes:
            allowed = urlsplit(prefix)
            if (
                plain
                and allowed.scheme in ("https", "http")
                and (parts.scheme, parts.hostname) == (allowed.scheme, allowed.hostname)
                and _port(uri) == _port(prefix)
                and _below(parts.path, allowed.path)
            ):
                return
        raise self._refused(uri)

    async def _fetch(self, uri: str) -> bytes:
        async with httpx.AsyncClient(follow_redirects=False, timeout=20) as client:
            for _ in range(_REDIRECTS + 1):
                answer = await self._get(client, uri)
                if isinstance(answer, bytes):
                    return answer
                uri = answer
                self._allow_url(uri)
        raise Unreadable(f"{uri} redirects more than {_REDIRECTS} times.", type="uri_failed")

    async def _get(self, client: httpx.AsyncClient, uri: str) -> bytes | str:
        """The content, or where it redirects to. A host that is busy is asked again twice."""
        reason = ""
        for attempt in range(_ATTEMPTS):
            if attempt:
                await asyncio.sleep(_PAUSE_S * attempt)
            try:
                async with client.stream("GET", uri) as response:
                    if response.has_redirect_location:
                        return str(response.url.join(response.headers["location"]))
                    if response.is_success:
                        return await self._content(response, uri)
                    reason = f"it answered {response.status_code}"
                    if response.status_code not in _BUSY:
                        break
            except (httpx.TransportError, httpx.InvalidURL) as error:
                reason = str(error) or type(error).__name__
        raise Unreadable(f"{uri} cannot be read: {reason}.", type="uri_failed")

    async def _content(self, response: httpx.Response, uri: str) -> bytes:
        data = bytearray()
        async for piece in response.aiter_bytes():
            data += piece
            if len(data) > self.limit:
                break
        return self._bounded(bytes(data), uri)

    def _bounded(self, data: bytes, name: str) -> bytes:
        if len(data) > self.limit:
            raise Unreadable(
                f"{name} has more than {self.limit} bytes, the limit.", type="too_large"
            )
        return data

    def _refused(self, uri: str) -> Unreadable:
        return Unreadable(
            f"The uri {uri} is not below a prefix that the operator allowed "
            "(PENSTOCK_URI_PREFIXES).",
            type="uri_refused",
        )


def _below(path: str, prefix: str) -> bool:
    """`/docs` and `/docs/` allow `/docs/a` but not `/docs-private`."""
    folder = prefix.rstrip("/")
    return path == folder or path.startswith(f"{folder}/")


def _port(uri: str) -> int | None:
    parts = urlsplit(uri)
    try:
        port = parts.port
    except ValueError:
        return None
    return port or {"https": 443, "http": 80}.get(parts.scheme)
