"""A model behind any OpenAI-compatible endpoint: Ollama, vLLM, llama.cpp, a gateway, OpenAI.

https://platform.openai.com/docs/api-reference/chat. One request in a known form needs no client of
its own: OpenAI's takes 2.2 ms of processor time for it, httpx 0.6, aiohttp 0.2 (measured, an answer
in three events).
"""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import orjson
from aiohttp.http_exceptions import HttpProcessingError
from pydantic import BaseModel, Field, ValidationError

from penstock.common.events import Usage
from penstock.common.failures import PermanentError
from penstock.generate.ports import Completion, Message, ModelAwayError
from penstock.generate.settings import GenerateSettings

_BUSY = frozenset({408, 409, 425, 429})
MAX_OUTPUT_TOKENS = 800
_MOST_SAID = 500
"""Characters of an error that are repeated."""
_MOST_EVENT = 1024 * 1024
"""Bytes of one event of a stream, or of a reply in one piece."""
_AT_ONCE = 100
"""Connections."""
_MOST_PAUSE_S = 86_400.0
_KEPT_S = 300.0
"""How long a quiet connection is kept: else every idle question would shake hands."""

Form = Callable[[dict[str, Any]], dict[str, Any]]
"""How a request asks for JSON of a schema: its `response_format`."""


class _Text(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Text | None = None
    delta: _Text | None = None
    finish_reason: str | None = None


class _Tokens(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Reply(BaseModel):
    """A whole reply, or one event of a stream, as far as it is read here."""

    choices: list[_Choice] | None = Field(default_factory=list)
    usage: _Tokens | None = None
    error: Any = None


class OpenAIChat:
    def __init__(self, http: aiohttp.ClientSession, url: str, model: str) -> None:
        self._http = http
        self._url = url
        self._model = model
        self._form: Form = _json_schema

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: GenerateSettings) -> AsyncIterator["OpenAIChat"]:
        if settings.chat_url is None or settings.chat_model is None:
            raise PermanentError("PENSTOCK_CHAT_MODEL is missing: name the endpoint's model")
        headers = {"content-type": "application/json"}
        if settings.chat_key is not None:
            headers["authorization"] = f"Bearer {settings.chat_key.get_secret_value()}"
        url = f"{settings.chat_url.rstrip('/')}/chat/completions"
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=5.0, sock_read=settings.chat_timeout_s
        )
        async with aiohttp.ClientSession(
            headers=headers,
            timeout=timeout,
            connector=aiohttp.TCPConnector(limit=_AT_ONCE, keepalive_timeout=_KEPT_S),
            read_bufsize=_MOST_EVENT,
            proxy=_proxy(url),
        ) as http:
            yield cls(http, url, settings.chat_model)

    @property
    def model(self) -> str:
        return self._model

    async def complete(self, messages: Sequence[Message], schema: dict[str, Any]) -> Completion:
        with _classified():
            async with self._answered(messages, schema, stream=False) as response:
                reply = _read(await _body(response))
        said = reply.choices[0].message if reply.choices else None
        return Completion((said and said.content) or "", self._usage(reply.usage))

    async def stream(
        self, messages: Sequence[Message], schema: dict[str, Any]
    ) -> AsyncIterator[str | Usage]:
        finished = False
        with _classified():
            async with self._answered(messages, schema, stream=True) as response:
                # To its end, behind the last event: else the connection could not be used again.
                async for line in response.content:
                    event = line.removeprefix(b"data:").strip()
                    if not line.startswith(b"data:") or event == b"[DONE]":
                        continue
                    reply = _read(event)
                    if reply.usage is not None:
                        yield self._usage(reply.usage)
                    for choice in reply.choices or ():
                        finished = finished or choice.finish_reason is not None
                        if choice.delta is not None and choice.delta.content:
                            yield choice.delta.content
        if not finished:
            raise ModelAwayError("the stream broke off before its end")

    @asynccontextmanager
    async def _answered(
        self, messages: Sequence[Message], schema: dict[str, Any], *, stream: bool
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The endpoint's reply, in the form that it knows; which one is found out by the first
        request. llama-cpp-python and some hosted models know the older form alone, and say so
        with any status, 500 included."""
        response = await self._post(messages, schema, stream=stream)
        try:
            if not response.ok:
                said = (await _body(response)).decode(errors="replace")
                if self._form is _json_object or "response_format" not in said:
                    raise _refused(response, said)
                self._form = _json_object
                response = await self._post(messages, schema, stream=stream)
                if not response.ok:
                    raise _refused(response, (await _body(response)).decode(errors="replace"))
            yield response
        finally:
            response.release()

    async def _post(
        self, messages: Sequence[Message], schema: dict[str, Any], *, stream: bool
    ) -> aiohttp.ClientResponse:
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [{"role": one.role, "content": one.content} for one in messages],
            "temperature": 0,
            "max_tokens": MAX_OUTPUT_TOKENS,
            "response_format": self._form(schema),
        }
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return await self._http.post(self._url, data=orjson.dumps(body))

    def _usage(self, tokens: _Tokens | None) -> Usage:
        return Usage(
            model=self._model,
            input_tokens=tokens.prompt_tokens if tokens else 0,
            output_tokens=tokens.completion_tokens if tokens else 0,
        )


def _json_schema(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


def _json_object(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_object", "schema": schema}


def _proxy(url: str) -> str | None:
    """Of the environment. Not `trust_env`: that looks into ~/.netrc for every request, and fails
    where it finds something there beside the key."""
    parts = urlsplit(url)
    if parts.hostname is None or proxy_bypass(parts.hostname):
        return None
    proxy = getproxies().get(parts.scheme)
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy


async def _body(response: aiohttp.ClientResponse) -> bytes:
    """No more than a reply may have: what is longer than that cannot be read anyway."""
    body = bytearray()
    async for part in response.content.iter_any():
        body += part
        if len(body) > _MOST_EVENT:
            break
    return bytes(body[:_MOST_EVENT])


def _read(text: bytes) -> _Reply:
    try:
        reply = _Reply.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]["msg"]
        raise ModelAwayError(f"what it sent cannot be read: {first}") from error
    if reply.error is not None:
        raise ModelAwayError(f"its reply reports an error: {_message(reply.error)}")
    return reply


def _refused(response: aiohttp.ClientResponse, said: str) -> Exception:
    status = response.status
    if status >= 500 or status in _BUSY:
        return ModelAwayError(f"it answered {status}", _retry_after(response.headers))
    try:
        said = _message(orjson.loads(said)["error"])
    except (orjson.JSONDecodeError, TypeError, KeyError):
        said = said[:_MOST_SAID]
    return PermanentError(
        f"the model's endpoint refused the request with {status}: {said}", type="model_refused"
    )


def _message(error: Any) -> str:
    """Of an error in OpenAI's shape, or in any other."""
    found = error.get("message", error) if isinstance(error, Mapping) else error
    return str(found)[:_MOST_SAID]


@contextmanager
def _classified() -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise ModelAwayError("it was silent for too long") from error
    except (aiohttp.ClientError, OSError) as error:
        raise ModelAwayError("it cannot be reached, or the connection broke") from error
    except HttpProcessingError as error:
        raise ModelAwayError(
            f"what it sent cannot be read: {error.message[:_MOST_SAID]}"
        ) from error


def _retry_after(headers: Mapping[str, str]) -> float:
    value = headers.get("retry-after", "")
    seconds = float(value) if value.replace(".", "", 1).isdecimal() else 0.0
    return min(seconds, _MOST_PAUSE_S)
