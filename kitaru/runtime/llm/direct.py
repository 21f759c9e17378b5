"""The usual provider: pydantic-ai's direct requests through the openai and anthropic SDKs, imported when first asked.

The SDKs' own retries are off, one request is one try. Structured output is asked for as a tool that has to be called,
which every provider knows. A response's raw body is kept beside what the SDK makes of it (`_Seen`, filled by a hook of
the HTTP client): usage and cost are read there, and so are the errors' status, headers and text.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, cast

from kitaru.domain.errors import KitaruFeatureNotAvailableError
from kitaru.runtime.llm import failing, loop
from kitaru.runtime.llm.metering import meter
from kitaru.runtime.llm.protocol import Answer, CallFailedError, Message, Request
from kitaru.runtime.llm.redaction import Redactor, ambient, keep_from_logs

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic
    from httpx2 import Response
    from openai import AsyncOpenAI
    from pydantic_ai.messages import ModelMessage, ModelResponse
    from pydantic_ai.models import Model, ModelRequestParameters
    from pydantic_ai.settings import ModelSettings

_NO_KEY = "api-key-not-set"
_OUTPUT_TOOL = "answer"
_ANTHROPIC_MAX_TOKENS = 16_384
"""Anthropic wants a number; the SDK asks for streaming above some more."""


@dataclass(slots=True)
class _Seen:
    """The last response of a try, as it came over the wire, but for credentials that came back in it."""

    redactor: Redactor
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: object = None


_seen: ContextVar[_Seen] = ContextVar("kitaru_llm_seen")


class Direct:
    """Asks the four providers. One for the process: it keeps the clients, and they their connections."""

    def __init__(self, provider: str) -> None:
        """Import what the provider needs. Raises KitaruFeatureNotAvailableError that says what to install."""
        extra = "anthropic" if provider == "anthropic" else "openai"
        try:
            import_module("pydantic_ai.direct")
            import_module(f"pydantic_ai.models.{extra}")
        except ImportError:
            raise KitaruFeatureNotAvailableError(
                f"calls of {provider} need packages that are not installed: run `pip install '.[{extra}]'` in this checkout",
                code="llm-extra-missing",
            ) from None

    async def answer(self, request: Request) -> Answer:
        """One request. Raises CallFailedError."""
        from pydantic_ai.direct import model_request

        seen = _Seen(Redactor((request.api_key, *ambient())))
        _seen.set(seen)
        failed: CallFailedError | None = None
        response: ModelResponse | None = None
        try:
            response = await model_request(
                _model(request, _client(request)),
                _messages(request.messages),
                model_settings=_settings(request),
                model_request_parameters=_parameters(request),
            )
        except Exception as error:
            failed = failing.of_sdk(error, seen.status, seen.headers, seen.body)
        metered = meter(seen.body, seen.headers)
        if failed is not None or response is None:  # raised here: the SDK's error, which knows the key, is no context of it
            failed = failed or CallFailedError("there was no response", code="llm-malformed")
            failed.metered = metered
            raise failed
        text = _text_of(response, is_structured=request.schema is not None)
        warnings: tuple[str, ...] = ()
        if text is None or (not text and response.finish_reason in ("length", "content_filter", "error")):
            raise CallFailedError(
                failing.without_text(response.finish_reason, is_structured=request.schema is not None),
                code="llm-no-answer",
                is_retryable=response.finish_reason in (None, "stop", "tool_call"),
                metered=metered,
            )
        if response.finish_reason == "length":
            warnings = ("the answer was cut at max_tokens",)
        return Answer(text, metered, warnings)


_clients: OrderedDict[tuple[str, str | None, str | None], AsyncOpenAI | AsyncAnthropic] = OrderedDict()


def _client(request: Request) -> AsyncOpenAI | AsyncAnthropic:
    """The SDK's client of a provider, base URL and key; used on the one loop only."""
    key = (request.provider, request.base_url, request.api_key)
    found = _clients.get(key)
    if found is None:
        if not _clients:
            loop.at_end(_close)
        found = _clients[key] = _new_client(request)
    _clients.move_to_end(key)
    return found


async def _close() -> None:
    for client in _clients.values():
        await client.close()
    _clients.clear()


def _new_client(request: Request) -> AsyncOpenAI | AsyncAnthropic:
    import httpx2

    for credential in filter(None, (request.api_key, *ambient())):
        keep_from_logs(credential)
    # It follows no redirect: the key would go along.
    http_client = httpx2.AsyncClient(event_hooks={"response": [_see]}, timeout=request.timeout)
    api_key = request.api_key or _NO_KEY
    if request.provider == "anthropic":
        from anthropic import AsyncAnthropic

        return AsyncAnthropic(api_key=api_key, base_url=request.base_url, max_retries=0, http_client=http_client)
    from openai import AsyncOpenAI

    return AsyncOpenAI(api_key=api_key, base_url=request.base_url, max_retries=0, http_client=http_client)


async def _see(response: Response) -> None:
    seen = _seen.get()
    hide = seen.redactor.text
    seen.status, seen.body = response.status_code, None
    seen.headers = {name: hide(value) for name, value in response.headers.items()}
    await response.aread()
    try:
        seen.body = seen.redactor.value(json.loads(response.content))
    except (ValueError, RecursionError):
        seen.body = hide(response.text)


def _model(request: Request, client: AsyncOpenAI | AsyncAnthropic) -> Model:
    if request.provider == "anthropic":
        from pydantic_ai.models.anthropic import AnthropicModel
        from pydantic_ai.providers.anthropic import AnthropicProvider

        return AnthropicModel(request.model, provider=AnthropicProvider(anthropic_client=client))  # type: ignore[arg-type]
    if request.provider == "openrouter":
        from pydantic_ai.models.openrouter import OpenRouterModel
        from pydantic_ai.providers.openrouter import OpenRouterProvider

        return OpenRouterModel(request.model, provider=OpenRouterProvider(openai_client=client))  # type: ignore[arg-type]
    if request.provider == "ollama":
        from pydantic_ai.models.ollama import OllamaModel
        from pydantic_ai.providers.ollama import OllamaProvider

        return OllamaModel(request.model, provider=OllamaProvider(openai_client=client))  # type: ignore[arg-type]
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    return OpenAIChatModel(request.model, provider=OpenAIProvider(openai_client=client))  # type: ignore[arg-type]


def _settings(request: Request) -> ModelSettings:
    settings: dict[str, object] = {"timeout": request.timeout}
    if request.temperature is not None:
        settings["temperature"] = request.temperature
    if request.max_tokens is not None:
        settings["max_tokens"] = request.max_tokens
    elif request.provider == "anthropic":
        settings["max_tokens"] = _ANTHROPIC_MAX_TOKENS
    if request.provider == "openrouter":
        settings["openrouter_usage"] = {"include": True}
    return cast("ModelSettings", settings)


def _parameters(request: Request) -> ModelRequestParameters:
    from pydantic_ai.models import ModelRequestParameters
    from pydantic_ai.tools import ToolDefinition

    if request.schema is None:
        return ModelRequestParameters()
    tool = ToolDefinition(
        name=_OUTPUT_TOOL,
        parameters_json_schema=dict(request.schema),
        description="The answer, in this form.",
        kind="output",
    )
    return ModelRequestParameters(output_mode="tool", output_tools=[tool], allow_text_output=False)


def _messages(messages: Sequence[Message]) -> list[ModelMessage]:
    from pydantic_ai.messages import ModelRequest, ModelResponse, SystemPromptPart, TextPart, UserPromptPart

    found: list[ModelMessage] = []
    asked: list[SystemPromptPart | UserPromptPart] = []
    for message in messages:
        if message.role == "assistant":
            if asked:
                found.append(ModelRequest(parts=asked))
                asked = []
            found.append(ModelResponse(parts=[TextPart(message.content)]))
        else:
            asked.append((SystemPromptPart if message.role == "system" else UserPromptPart)(message.content))
    if asked:
        found.append(ModelRequest(parts=asked))
    return found


def _text_of(response: ModelResponse, *, is_structured: bool) -> str | None:
    from pydantic_ai.messages import TextPart, ToolCallPart

    if is_structured:
        called = next((part for part in response.parts if isinstance(part, ToolCallPart)), None)
        return None if called is None else called.args_as_json_str()
    texts = [part.content for part in response.parts if isinstance(part, TextPart)]
    return "".join(texts) if texts else "" if response.finish_reason == "stop" else None
