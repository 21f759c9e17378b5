"""`kitaru.llm`: in a flow's body a checkpoint of its own, each try an attempt; in a checkpoint it runs where it stands.

Importing this imports no provider; pydantic-ai comes with the first request, and never with a mocked one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import TypedDict, TypeVar, overload

from kitaru.domain.errors import KitaruContextError, KitaruRuntimeError
from kitaru.runtime.durable import call_durably, call_durably_async
from kitaru.runtime.llm import choice
from kitaru.runtime.llm.outputs import OutputType
from kitaru.runtime.llm.prompts import (
    Prompt,
    checked_call_name,
    checked_max_tokens,
    checked_prompt,
    checked_retries,
    checked_temperature,
    checked_timeout,
)
from kitaru.runtime.llm.tries import Asked, Call
from kitaru.runtime.scope import CallScope, FlowScope, RemoteScope, current, flow_scope

T = TypeVar("T")
_TYPE = "llm_call"
"""The checkpoint type of a call in a flow's body."""
_UNNAMED = "llm"


@overload
def llm(
    prompt: Prompt,
    *,
    model: str | None = None,
    system: str | None = None,
    temperature: float | None = None,
    max_tokens: int | None = None,
    name: str | None = None,
    output_type: None = None,
    timeout: float = 120,
    retries: int = 2,
) -> str: ...
@overload
def llm(
    prompt: Prompt,
    *,
    model: str | None = None,
    system: str | None = None,
    temperature: float | None = None,
    max_tokens: int | None = None,
    name: str | None = None,
    output_type: type[T],
    timeout: float = 120,
    retries: int = 2,
) -> T: ...
def llm(
    prompt: Prompt,
    *,
    model: str | None = None,
    system: str | None = None,
    temperature: float | None = None,
    max_tokens: int | None = None,
    name: str | None = None,
    output_type: object = None,
    timeout: float = 120,
    retries: int = 2,
) -> object:
    """Ask a model and give its answer, a text or a value of `output_type`; asked once, however often the flow is run.

    `prompt` is a text, or messages with `role` (system, user, assistant) and `content`. `model` is an alias or
    provider/model. `timeout` is seconds for one try, of which `retries` may follow the first. Raises KitaruUsageError,
    KitaruContextError outside a flow, KitaruRuntimeError when there was no answer.
    """
    asked = _asked(prompt, model, system, temperature, max_tokens, output_type, timeout, retries)
    scope, call = _placed("kitaru.llm", asked, checked_call_name(name))
    if scope is None:
        return call_durably(_ask, call, **_durably(call))
    return _inline(scope, call)


@overload
def llm_async(
    prompt: Prompt,
    *,
    model: str | None = None,
    system: str | None = None,
    temperature: float | None = None,
    max_tokens: int | None = None,
    name: str | None = None,
    output_type: None = None,
    timeout: float = 120,
    retries: int = 2,
) -> Coroutine[object, object, str]: ...
@overload
def llm_async(
    prompt: Prompt,
    *,
    model: str | None = None,
    system: str | None = None,
    temperature: float | None = None,
    max_tokens: int | None = None,
    name: str | None = None,
    output_type: type[T],
    timeout: float = 120,
    retries: int = 2,
) -> Coroutine[object, object, T]: ...
def llm_async(
    prompt: Prompt,
    *,
    model: str | None = None,
    system: str | None = None,
    temperature: float | None = None,
    max_tokens: int | None = None,
    name: str | None = None,
    output_type: object = None,
    timeout: float = 120,
    retries: int = 2,
) -> Coroutine[object, object, object]:
    """`llm` in an async flow or checkpoint: other tasks go on meanwhile. Its name is taken when it is called."""
    asked = _asked(prompt, model, system, temperature, max_tokens, output_type, timeout, retries)
    scope = current.get()
    if isinstance(scope, FlowScope) and not scope.session.is_async:
        raise KitaruContextError(
            "kitaru.llm_async was called in a flow that is not async: use kitaru.llm, or make the flow `async def`"
        )
    scope, call = _placed("kitaru.llm_async", asked, checked_call_name(name))
    if scope is None:
        return call_durably_async(_ask_async, call, **_durably(call))
    return _inline_async(scope, call)


def _asked(
    prompt: object,
    model: object,
    system: object,
    temperature: object,
    max_tokens: object,
    output_type: object,
    timeout: object,
    retries: object,
) -> Asked:
    messages = checked_prompt(prompt, system)
    kept = prompt if isinstance(prompt, str) and system is None else [message._asdict() for message in messages]
    return Asked(
        messages=messages,
        prompt=kept,
        model=choice.checked_model(model),
        temperature=checked_temperature(temperature),
        max_tokens=checked_max_tokens(max_tokens),
        output=None if output_type is None else OutputType(output_type),
        timeout=checked_timeout(timeout),
        retries=checked_retries(retries),
    )


def _placed(what: str, asked: Asked, name: str | None) -> tuple[CallScope | RemoteScope | None, Call]:
    """The attempt that the call is made in, None in a flow's body; and the call. Raises KitaruContextError."""
    scope = current.get()
    if not isinstance(scope, (CallScope, RemoteScope)):
        flow_scope(what)
        return None, Call(asked, name, is_checkpoint=True)
    made = scope.llm_calls = scope.llm_calls or {}
    number = made[name or ""] = made.get(name or "", 0) + 1
    own = f"{_UNNAMED}_{number}" if name is None else name if number == 1 else f"{name}_{number}"
    return scope, Call(asked, own, is_checkpoint=False)


# --- in a flow's body ---------------------------------------------------------------------------------------------------


class _Durably(TypedDict):
    """What makes the call a checkpoint."""

    name: str
    type: str
    inputs: Mapping[str, object]
    numbered: bool
    pause_after: Callable[[BaseException, int], float | None]
    returns: object


def _durably(call: Call) -> _Durably:
    output = call.asked.output
    return _Durably(
        name=call.name or _UNNAMED,
        type=_TYPE,
        inputs=call.asked.recorded(),
        numbered=call.name is None,
        pause_after=lambda _, failed: call.pause_after(failed),
        returns=str if output is None else output.kind,
    )


def _ask(call: Call) -> object:
    return _named(call).try_once()


async def _ask_async(call: Call) -> object:
    return await _named(call).try_once_async()


def _named(call: Call) -> Call:
    """Under the id that its checkpoint was given, without a task's path."""
    scope = current.get()
    if isinstance(scope, CallScope):
        call.name = scope.invocation_id.rpartition("/")[2]
    return call


# --- in a checkpoint ----------------------------------------------------------------------------------------------------


def _inline(scope: CallScope | RemoteScope, call: Call) -> object:
    failed = 0
    while True:
        try:
            return call.try_once()
        except KitaruRuntimeError:
            pause = call.pause_after(failed)
            if pause is None:
                raise
        failed += 1
        if isinstance(scope, RemoteScope):
            time.sleep(pause)
            continue
        scope.session.clock.sleep(pause, scope.session.leaving)
        scope.session.check_leaving()


async def _inline_async(scope: CallScope | RemoteScope, call: Call) -> object:
    failed = 0
    while True:
        try:
            return await call.try_once_async()
        except KitaruRuntimeError:
            pause = call.pause_after(failed)
            if pause is None:
                raise
        failed += 1
        await _paused(scope, pause)


def _paused(scope: CallScope | RemoteScope, seconds: float) -> Awaitable[None]:
    return asyncio.sleep(seconds) if isinstance(scope, RemoteScope) else scope.session.clock.sleep_async(seconds)
