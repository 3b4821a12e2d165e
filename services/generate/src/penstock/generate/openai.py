"""A model behind any OpenAI-compatible endpoint: Ollama, vLLM, llama.cpp, a gateway, OpenAI.

https://platform.openai.com/docs/api-reference/chat. One request in a known form needs no more than
httpx and a reader of events: OpenAI's own client takes 2.2 ms of processor time for it, this 0.6
(measured, an answer in three events).
"""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx
import orjson
from httpx_sse import EventSource, SSEError
from pydantic import BaseModel, Field, ValidationError

from penstock.common.events import Usage
from penstock.common.failures import PermanentError
from penstock.generate.ports import Completion, Message, ModelAwayError
from penstock.generate.settings import GenerateSettings

_BUSY = frozenset({408, 409, 425, 429})
MAX_OUTPUT_TOKENS = 800
_MOST_SAID = 500
"""Characters of an error that are repeated."""
_LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=300)
"""httpx lets go of a connection after five quiet seconds: every idle question would shake hands."""

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
    def __init__(self, http: httpx.AsyncClient, model: str) -> None:
        self._http = http
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
        timeout = httpx.Timeout(settings.chat_timeout_s, connect=5.0)
        async with httpx.AsyncClient(
            base_url=settings.chat_url, headers=headers, timeout=timeout, limits=_LIMITS
        ) as http:
            yield cls(http, settings.chat_model)

    @property
    def model(self) -> str:
        return self._model

    async def complete(self, messages: Sequence[Message], schema: dict[str, Any]) -> Completion:
        with _classified():
            async with self._answered(messages, schema, stream=False) as response:
                reply = _read(await response.aread())
        said = reply.choices[0].message if reply.choices else None
        return Completion((said and said.content) or "", self._usage(reply.usage))

    async def stream(
        self, messages: Sequence[Message], schema: dict[str, Any]
    ) -> AsyncIterator[str | Usage]:
        finished = False
        with _classified():
            async with self._answered(messages, schema, stream=True) as response:
                async for event in EventSource(response).aiter_sse():
                    if event.data == "[DONE]":
                        break
                    reply = _read(event.data)
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
    ) -> AsyncIterator[httpx.Response]:
        """The endpoint's reply, in the form that it knows; which one is found out by the first
        request. llama-cpp-python and some hosted models know the older form alone, and say so
        with any status, 500 included."""
        response = await self._post(messages, schema, stream=stream)
        try:
            if response.is_error:
                said = (await response.aread()).decode(errors="replace")
                if self._form is _json_object or "response_format" not in said:
                    raise _refused(response, said)
                self._form = _json_object
                await response.aclose()
                response = await self._post(messages, schema, stream=stream)
                if response.is_error:
                    raise _refused(response, (await response.aread()).decode(errors="replace"))
            yield response
        finally:
            await response.aclose()

    async def _post(
        self, messages: Sequence[Message], schema: dict[str, Any], *, stream: bool
    ) -> httpx.Response:
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [{"role": one.role, "content": one.content} for one in messages],
            "temperature": 0,
            "max_tokens": MAX_OUTPUT_TOKENS,
            "response_format": self._form(schema),
        }
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        request = self._http.build_request("POST", "chat/completions", content=orjson.dumps(body))
        return await self._http.send(request, stream=True)

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


def _read(text: str | bytes) -> _Reply:
    try:
        reply = _Reply.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]["msg"]
        raise ModelAwayError(f"what it sent cannot be read: {first}") from error
    if reply.error is not None:
        raise ModelAwayError(f"its reply reports an error: {_message(reply.error)}")
    return reply


def _refused(response: httpx.Response, said: str) -> Exception:
    status = response.status_code
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
    except httpx.TimeoutException as error:
        raise ModelAwayError("it was silent for too long") from error
    except httpx.TransportError as error:
        raise ModelAwayError("it cannot be reached, or the connection broke") from error
    except (SSEError, httpx.DecodingError) as error:
        raise ModelAwayError(f"its stream cannot be read: {error}") from error


def _retry_after(headers: Mapping[str, str]) -> float:
    value = headers.get("retry-after", "")
    return float(value) if value.replace(".", "", 1).isdigit() else 0.0
