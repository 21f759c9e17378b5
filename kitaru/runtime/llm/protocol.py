"""What one try of an LLM call asks of a provider, what it gets back, and where another provider is put in.

A provider is anything with `async def answer(self, request) -> Answer` that raises CallFailedError. The one that is used
otherwise stands on pydantic-ai (`direct`). It is called on a loop of Kitaru's own, in one thread for the process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple, Protocol


class Message(NamedTuple):
    """One message. `role`: system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Request:
    """One try. `schema`: the JSON schema of an object that the answer's text has to be; None: any text."""

    provider: str
    model: str
    messages: tuple[Message, ...]
    base_url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    temperature: float | None = None
    max_tokens: int | None = None
    schema: Mapping[str, object] | None = None
    timeout: float = 120


@dataclass(frozen=True, slots=True)
class Metered:
    """What a response says that it used; None where it says nothing. Input counts cache reads and writes, output reasoning.

    `cost_usd` is what the provider reports, never a guess; `cost_label` says where it stands. `warnings`: what it said that
    cannot be.
    """

    response_id: str | None = None
    model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    cached_input_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    raw: Mapping[str, object] | None = None
    cost_usd: Decimal | None = None
    cost_label: str | None = None
    warnings: tuple[str, ...] = ()

    @property
    def is_metered(self) -> bool:
        """Whether it says anything of what was used: then it was paid for."""
        return self.input_tokens is not None or self.output_tokens is not None or self.cost_usd is not None


@dataclass(frozen=True, slots=True)
class Answer:
    """A response. With a schema `text` is JSON. `warnings` go into the usage record."""

    text: str
    metered: Metered = Metered()
    warnings: tuple[str, ...] = ()


class CallFailedError(Exception):
    """A try gave no answer. `code` becomes the error's; `metered` is what the response says all the same.

    is_retryable: whether the same request may well succeed. retry_after: seconds that the provider asks to wait.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str = "llm-failed",
        is_retryable: bool = False,
        retry_after: float | None = None,
        metered: Metered | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.is_retryable = is_retryable
        self.retry_after = retry_after
        self.metered = metered or Metered()


class Provider(Protocol):
    """Who answers."""

    async def answer(self, request: Request) -> Answer:
        """One try; raises CallFailedError. It is cancelled past the request's timeout."""
        ...


_installed: Provider | None = None


def use_provider(provider: Provider | None) -> Provider | None:
    """Let another provider answer every call of this process, None for the usual one; gives the one before."""
    global _installed
    before, _installed = _installed, provider
    return before


def installed() -> Provider | None:
    """The provider that was put in."""
    return _installed
