"""The typed async client: the API's calls under the API's names."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from penstock.client.errors import ApiError, UnreachableError, from_response
from penstock.client.models import Answer, Document, Event, Job, SearchResult

DEFAULT_URL = "http://127.0.0.1:8080"


class Penstock:
    """
    A connection to one Penstock.

        async with Penstock() as penstock:
            answer = await penstock.ask("How long is the warranty?")

    Raises:
        UnreachableError: nothing answers at `url`.
        ApiError: the API refused; `type` and `detail` say why.
    """

    def __init__(
        self, url: str = DEFAULT_URL, key: str | None = None, *, timeout_s: float = 30.0
    ) -> None:
        self._http = httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=timeout_s,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._http.aclose()

    # ------------------------------------------------------------ documents

    async def submit_documents(
        self, documents: Sequence[Mapping[str, Any]], *, collection: str | None = None, **more: Any
    ) -> Job:
        """Each document is `{"id"?, "title"?, "text" or "uri", "metadata"?, "access"?}`."""
        body: dict[str, Any] = {"documents": list(documents), **more}
        if collection is not None:
            body["collection"] = collection
        return Job.model_validate(await self._call("POST", "/v1/documents", json=body))

    async def upload(
        self,
        files: Mapping[str, Path],
        *,
        collection: str | None = None,
        access: Sequence[str] | None = None,
    ) -> Job:
        """
        Upload files under their document ids; they are streamed, not read into memory.

        `access` names the groups that may read them; None: everybody with a reader's key.
        """
        async with AsyncExitStack() as stack:
            parts = []
            for document_id, path in files.items():
                handle = stack.enter_context(await asyncio.to_thread(path.open, "rb"))
                parts.append(("files", (document_id, handle)))
            data = {"collection": collection} if collection else {}
            if access is not None:
                data["access"] = json.dumps(list(access))
            return Job.model_validate(
                await self._call("POST", "/v1/documents", files=parts, data=data)
            )

    def documents(self, **params: Any) -> AsyncIterator[Document]:
        return self._pages("/v1/documents", "documents", Document, params)

    async def document(self, document_id: str) -> Document:
        return Document.model_validate(await self._call("GET", _path("documents", document_id)))

    async def document_text(self, document_id: str) -> str:
        body = await self._call("GET", f"{_path('documents', document_id)}/text")
        return str(body["text"])

    async def delete_document(self, document_id: str) -> Job:
        """The job's result is the receipt."""
        return Job.model_validate(await self._call("DELETE", _path("documents", document_id)))

    # ------------------------------------------------------------ questions

    async def search(self, query: str, **more: Any) -> SearchResult:
        """`top_k`, `mode`, `filter` and `collection` as in the API."""
        body = {"query": query, **more}
        return SearchResult.model_validate(await self._call("POST", "/v1/search", json=body))

    async def submit_question(self, question: str, *, wait_s: float = 0, **more: Any) -> Job:
        headers = {"Prefer": f"wait={wait_s:g}"} if wait_s else {}
        return Job.model_validate(
            await self._call(
                "POST",
                "/v1/questions",
                json={"question": question, **more},
                headers=headers,
                timeout=max(30.0, wait_s + 10.0),
            )
        )

    async def ask(self, question: str, *, timeout_s: float = 60.0, **more: Any) -> Answer:
        """
        Ask and wait for the answer.

        Raises:
            ApiError: the question was refused or its job failed.
        """
        job = await self.submit_question(question, wait_s=timeout_s, **more)
        if not job.ended:
            job = await self.wait(job.id, timeout_s=timeout_s)
        if job.state != "succeeded" or job.result is None:
            problem = job.error
            raise ApiError(
                200,
                problem.type if problem else job.state,
                problem.message if problem else f"the job is {job.state}",
                job.model_dump(mode="json"),
            )
        return Answer.model_validate(job.result)

    # ------------------------------------------------------------ jobs

    async def job(self, job_id: str) -> Job:
        return Job.model_validate(await self._call("GET", _path("jobs", job_id)))

    def jobs(self, **params: Any) -> AsyncIterator[Job]:
        return self._pages("/v1/jobs", "jobs", Job, params)

    async def cancel_job(self, job_id: str) -> Job:
        return Job.model_validate(await self._call("POST", f"{_path('jobs', job_id)}/cancel"))

    async def wait(self, job_id: str, *, timeout_s: float = 300.0) -> Job:
        """
        Follow the job's events until it has ended; one that was redriven ends once more.

        Raises:
            TimeoutError: it has not ended in `timeout_s` seconds.
        """
        async with asyncio.timeout(timeout_s):
            while True:
                async for _ in self.job_events(job_id):
                    pass
                job = await self.job(job_id)
                if job.ended:
                    return job

    async def job_events(self, job_id: str) -> AsyncIterator[Event]:
        """
        Progress, released sentences, retractions and the end; resumes where a stream broke.

        A job that was redriven has an end for each attempt: the last event is the one that counts.
        """
        last: str | None = None
        ended = False
        while True:
            headers = {"Last-Event-ID": last} if last else {}
            try:
                async for event in self._stream(f"{_path('jobs', job_id)}/events", headers):
                    last = event.id or last
                    ended = event.event == "end"
                    yield event
                if ended:
                    return
            except httpx.TransportError:
                await asyncio.sleep(0.5)
            except ApiError as error:
                if error.status != httpx.codes.SERVICE_UNAVAILABLE:
                    raise
                await asyncio.sleep(0.5)  # the API is starting, or its database is away

    # ------------------------------------------------------------ operators

    def dead_letters(self, **params: Any) -> AsyncIterator[dict[str, Any]]:
        return self._pages("/v1/dead-letters", "dead_letters", None, params)

    async def dead_letter(self, letter_id: str) -> dict[str, Any]:
        return await self._call("GET", _path("dead-letters", letter_id))

    async def redrive(self, letter_id: str) -> dict[str, Any]:
        return await self._call("POST", f"{_path('dead-letters', letter_id)}/redrive")

    async def drop(self, letter_id: str) -> dict[str, Any]:
        return await self._call("DELETE", _path("dead-letters", letter_id))

    def quarantine(self, **params: Any) -> AsyncIterator[dict[str, Any]]:
        return self._pages("/v1/quarantine", "items", None, params)

    async def quarantined(self, item_id: str) -> dict[str, Any]:
        return await self._call("GET", _path("quarantine", item_id))

    async def decide(self, item_id: str, decision: str, comment: str = "") -> dict[str, Any]:
        """`decision` is "release" or "reject"."""
        body = {"decision": decision} | ({"comment": comment} if comment else {})
        return await self._call("POST", f"{_path('quarantine', item_id)}/decision", json=body)

    def collections(self) -> AsyncIterator[dict[str, Any]]:
        return self._pages("/v1/collections", "collections", None, {})

    async def create_collection(self, **fields: Any) -> dict[str, Any]:
        return await self._call("POST", "/v1/collections", json=fields)

    def keys(self) -> AsyncIterator[dict[str, Any]]:
        return self._pages("/v1/keys", "keys", None, {})

    async def create_key(self, **fields: Any) -> dict[str, Any]:
        """The key itself is in the answer, this once."""
        return await self._call("POST", "/v1/keys", json=fields)

    async def delete_key(self, key_id: str) -> None:
        await self._call("DELETE", _path("keys", key_id))

    # ------------------------------------------------------------ plumbing

    async def _call(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        try:
            response = await self._http.request(method, path, **more)
        except httpx.TransportError as error:
            raise UnreachableError(
                f"no answer from {self._http.base_url} ({type(error).__name__}); "
                "is it running? `penstock status` tells, `penstock up` starts it"
            ) from error
        if response.is_error:
            raise from_response(response)
        if response.status_code == httpx.codes.NO_CONTENT:
            return {}
        body: dict[str, Any] = response.json()
        return body

    async def _pages(
        self, path: str, name: str, model: Any, params: Mapping[str, Any]
    ) -> AsyncIterator[Any]:
        """Every item of every page; a page is `{name: […], "next": cursor or null}`."""
        cursor: str | None = None
        given = {key: value for key, value in params.items() if value is not None}
        while True:
            page = await self._call(
                "GET", path, params={**given, **({"cursor": cursor} if cursor else {})}
            )
            for item in page[name]:
                yield model.model_validate(item) if model is not None else item
            cursor = page.get("next")
            if not cursor:
                return

    async def _stream(self, path: str, headers: dict[str, str]) -> AsyncIterator[Event]:
        timeout = httpx.Timeout(10.0, read=60.0)
        async with self._http.stream("GET", path, headers=headers, timeout=timeout) as response:
            if response.is_error:
                await response.aread()
                raise from_response(response)
            fields: dict[str, str] = {}
            async for line in response.aiter_lines():
                if line:
                    name, _, value = line.partition(":")
                    fields[name] = value.removeprefix(" ")
                elif "data" in fields:
                    yield Event(
                        id=fields.get("id"),
                        event=fields.get("event", "message"),
                        data=json.loads(fields["data"]),
                    )
                    fields = {}


def _path(collection: str, name: str) -> str:
    return f"/v1/{collection}/{quote(name, safe='')}"
