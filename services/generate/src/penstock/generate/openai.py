"""A model behind any OpenAI-compatible endpoint: Ollama, vLLM, llama.cpp, a gateway, OpenAI."""

from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar, cast

import httpx
import openai
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletionMessageParam

from penstock.common.events import Usage
from penstock.common.failures import PermanentError
from penstock.generate.ports import Completion, Message, ModelAwayError
from penstock.generate.settings import GenerateSettings

_BUSY = frozenset({408, 409, 425, 429})
MAX_OUTPUT_TOKENS = 800
_LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=300)
"""httpx lets go of a connection after five quiet seconds: every idle question would shake hands."""

Reply = TypeVar("Reply")
Form = Callable[[dict[str, Any]], dict[str, Any]]
"""How a request asks for JSON of a schema: its `response_format`."""


class OpenAIChat:
    def __init__(self, client: openai.AsyncOpenAI, model: str) -> None:
        self._client = client
        self._model = model
        self._form: Form = _json_schema

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: GenerateSettings) -> AsyncIterator["OpenAIChat"]:
        if settings.chat_url is None or settings.chat_model is None:
            raise PermanentError("PENSTOCK_CHAT_MODEL is missing: name the endpoint's model")
        key = settings.chat_key.get_secret_value() if settings.chat_key else "none"
        timeout = httpx.Timeout(settings.chat_timeout_s, connect=5.0)
        # The client's own default is another library, out of sight of httpx's instrumentation.
        async with httpx.AsyncClient(timeout=timeout, limits=_LIMITS) as http:
            client = openai.AsyncOpenAI(
                base_url=settings.chat_url,
                api_key=key,
                max_retries=0,
                http_client=cast("Any", http),  # typed for another library, made for both
            )
            yield cls(client, settings.chat_model)

    @property
    def model(self) -> str:
        return self._model

    async def complete(self, messages: Sequence[Message], schema: dict[str, Any]) -> Completion:
        with _classified():
            reply = await self._in_known_form(
                lambda form: self._client.chat.completions.create(
                    **self._request(messages, form(schema)), stream=False
                )
            )
        text = reply.choices[0].message.content if reply.choices else None
        return Completion(text or "", self._usage(reply.usage))

    async def stream(
        self, messages: Sequence[Message], schema: dict[str, Any]
    ) -> AsyncIterator[str | Usage]:
        with _classified():
            chunks = await self._in_known_form(
                lambda form: self._client.chat.completions.create(
                    **self._request(messages, form(schema)),
                    stream=True,
                    stream_options={"include_usage": True},
                )
            )
            finished = False
            async for chunk in chunks:
                if chunk.usage is not None:
                    yield self._usage(chunk.usage)
                for choice in chunk.choices:
                    finished = finished or choice.finish_reason is not None
                    if choice.delta.content:
                        yield choice.delta.content
        if not finished:
            raise ModelAwayError("the stream broke off before its end")

    async def _in_known_form(self, send: Callable[[Form], Awaitable[Reply]]) -> Reply:
        """Ask in the form that the endpoint knows; which one is found out by the first request.

        llama-cpp-python and some hosted models know the older form alone, and say so with any
        status, 500 included."""
        try:
            return await send(self._form)
        except openai.APIStatusError as error:
            if self._form is _json_object or "response_format" not in error.message:
                raise
        self._form = _json_object
        return await send(self._form)

    def _request(self, messages: Sequence[Message], form: dict[str, Any]) -> dict[str, Any]:
        return {
            "model": self._model,
            "messages": list(_messages(messages)),
            "temperature": 0,
            "max_tokens": MAX_OUTPUT_TOKENS,
            "response_format": form,
        }

    def _usage(self, usage: CompletionUsage | None) -> Usage:
        return Usage(
            model=self._model,
            input_tokens=usage.prompt_tokens if usage else 0,
            output_tokens=usage.completion_tokens if usage else 0,
        )


def _json_schema(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


def _json_object(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_object", "schema": schema}


def _messages(messages: Iterable[Message]) -> Iterator[ChatCompletionMessageParam]:
    for message in messages:
        match message.role:
            case "system":
                yield {"role": "system", "content": message.content}
            case "user":
                yield {"role": "user", "content": message.content}
            case "assistant":
                yield {"role": "assistant", "content": message.content}


@contextmanager
def _classified() -> Iterator[None]:
    try:
        yield
    except openai.APIStatusError as error:
        status = error.status_code
        if status >= 500 or status in _BUSY:
            raise ModelAwayError(
                f"it answered {status}", _retry_after(error.response.headers)
            ) from error
        raise PermanentError(
            f"the model's endpoint refused the request with {status}: {error.message}",
            type="model_refused",
        ) from error
    except (openai.APITimeoutError, httpx.TimeoutException) as error:
        raise ModelAwayError("it was silent for too long") from error
    except (openai.APIConnectionError, httpx.TransportError) as error:
        raise ModelAwayError("it cannot be reached, or the connection broke") from error
    except openai.APIError as error:
        raise ModelAwayError(f"its stream reported an error: {error.message}") from error


def _retry_after(headers: Mapping[str, str]) -> float:
    value = headers.get("retry-after", "")
    return float(value) if value.replace(".", "", 1).isdigit() else 0.0
