"""The arguments of an LLM call, checked before anything is recorded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import cast

from kitaru.domain.errors import KitaruUsageError
from kitaru.runtime.llm.protocol import Message
from kitaru.runtime.options import MAX_COUNT, checked_amount, checked_count, checked_name, checked_seconds

Prompt = str | Sequence[Mapping[str, str]]
"""A text, or messages with `role` and `content`."""
ROLES = ("system", "user", "assistant")
_FORM = 'messages are a list such as [{"role": "user", "content": "Hello"}], with a role of system, user or assistant'


def checked_prompt(prompt: object, system: object) -> tuple[Message, ...]:
    """The messages, the system's first. Raises KitaruUsageError."""
    before = () if system is None else (Message("system", _checked_text(system, "system")),)
    if isinstance(prompt, str):
        return (*before, Message("user", _checked_text(prompt, "the prompt")))
    if not isinstance(prompt, Sequence) or isinstance(prompt, (bytes, bytearray)):
        raise KitaruUsageError(f"a prompt is a text or messages, not {type(prompt).__name__}; {_FORM}")
    messages = tuple(_checked_message(place, each) for place, each in enumerate(cast("Sequence[object]", prompt), 1))
    if not any(message.role == "user" for message in messages):
        raise KitaruUsageError(f"the prompt has no message of the user; {_FORM}")
    return (*before, *messages)


def checked_temperature(value: object) -> float | None:
    """A finite number from 0, or None. Raises KitaruUsageError."""
    if value is None:
        return None
    if isinstance(value, float) and math.isnan(value):
        raise KitaruUsageError("temperature is NaN; give a number from 0, or leave it out")
    return checked_amount(value, "temperature")


def checked_max_tokens(value: object) -> int | None:
    """A whole number from 1, or None. Raises KitaruUsageError."""
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_COUNT:
        return value
    raise KitaruUsageError(f"max_tokens has to be a whole number from 1, not {value!r}")


def checked_timeout(value: object) -> float:
    """Seconds, more than 0. Raises KitaruUsageError."""
    seconds = checked_seconds(value, "timeout")
    if not seconds:
        raise KitaruUsageError("timeout is 0 seconds, in which nobody answers; give more, such as timeout=120")
    return seconds


def checked_retries(value: object) -> int:
    """How many tries may follow the first. Raises KitaruUsageError."""
    return checked_count(value, "retries")


def checked_call_name(name: object) -> str | None:
    """The call's own name, or None. Raises KitaruUsageError."""
    if name is None:
        return None
    checked = checked_name(name, "the call's name")
    if "/" in checked:
        raise KitaruUsageError(f"the call's name {checked!r} contains '/'; choose another")
    if len(checked) > _LONGEST_NAME:
        raise KitaruUsageError(f"the call's name has {len(checked)} characters; {_LONGEST_NAME} are allowed")
    return checked


_LONGEST_NAME = 200
"""Its artifacts are called `<name>_prompt` and `<name>_response`, with a number where it is used again."""


def _checked_message(place: int, message: object) -> Message:
    fields: Mapping[object, object] = cast("Mapping[object, object]", message) if isinstance(message, Mapping) else {}
    if set(fields) != {"role", "content"}:
        raise KitaruUsageError(f"message {place} has to have role and content and nothing else; {_FORM}")
    if fields["role"] not in ROLES:
        raise KitaruUsageError(f"message {place} has the role {fields['role']!r}; {_FORM}")
    return Message(str(fields["role"]), _checked_text(fields["content"], f"the content of message {place}"))


def _checked_text(text: object, what: str) -> str:
    if not isinstance(text, str):
        raise KitaruUsageError(f"{what} has to be a text, not {type(text).__name__}")
    if not text.strip():
        raise KitaruUsageError(f"{what} is empty; give the model something to answer")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise KitaruUsageError(f"{what} holds a lone surrogate, which no provider takes; clean the text first") from None
    return text
