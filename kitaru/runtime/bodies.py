"""Running a checkpoint's body for one attempt: inline, on a loop, with a deadline, or in a process of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable
from contextlib import suppress
from contextvars import copy_context
from typing import cast

from kitaru.runtime.checkpoint import Prepared
from kitaru.runtime.scope import CallScope, current


def run(prepared: Prepared, scope: CallScope) -> tuple[object, BaseException | None]:
    """Run a plain body (or a coroutine body off the loop) for one attempt."""
    checkpoint = prepared.checkpoint
    try:
        if checkpoint.isolated:
            from kitaru.runtime import isolation

            return isolation.run(prepared, scope), None
        if checkpoint.timeout is not None and not checkpoint.is_async:
            return _run_with_deadline(prepared, scope, checkpoint.timeout)
        token = current.set(scope)
        try:
            if checkpoint.is_async:
                return asyncio.run(_awaited_unless_over(prepared)), None
            return checkpoint.fn(*prepared.args, **prepared.kwargs), None
        finally:
            current.reset(token)
    except BaseException as error:
        return None, error


async def run_async(prepared: Prepared, scope: CallScope) -> tuple[object, BaseException | None]:
    """Run a body for one attempt without stopping the loop: a plain one in a thread."""
    if prepared.checkpoint.isolated or not prepared.checkpoint.is_async:
        running = prepared.session.bodies.submit(copy_context().run, run, prepared, scope)
        try:
            return await asyncio.wrap_future(running)
        except asyncio.CancelledError as cancelled:
            if scope.abandon is not None:
                scope.abandon()
            return None, cancelled
    token = current.set(scope)
    try:
        return await _awaited(prepared), None
    except BaseException as error:
        return None, error
    finally:
        current.reset(token)


async def _awaited_unless_over(prepared: Prepared) -> object:
    """In a plain flow: the body on a loop of its own, cancelled with the execution."""
    session = prepared.session
    loop, task = asyncio.get_running_loop(), cast("asyncio.Task[object]", asyncio.current_task())

    def cancel() -> None:
        if session.is_over:
            with suppress(RuntimeError):  # the loop is closed: the body has ended
                loop.call_soon_threadsafe(task.cancel)

    with session.calling_on_leave(cancel):
        try:
            return await _awaited(prepared)
        except asyncio.CancelledError:
            if session.is_over:
                session.check_leaving()
            raise


async def _awaited(prepared: Prepared) -> object:
    checkpoint = prepared.checkpoint
    body: Awaitable[object] = checkpoint.fn(*prepared.args, **prepared.kwargs)  # type: ignore[assignment]
    if checkpoint.timeout is None:
        return await body
    deadline = asyncio.timeout(checkpoint.timeout)
    try:
        async with deadline:
            return await body
    except TimeoutError:
        if deadline.expired():
            raise _too_long(prepared, checkpoint.timeout) from None
        raise


def _run_with_deadline(prepared: Prepared, scope: CallScope, timeout: float) -> tuple[object, BaseException | None]:
    """Run the body in a thread that can be left behind: Python cannot end a thread."""
    result: list[tuple[object, BaseException | None]] = []

    def body() -> None:
        current.set(scope)
        try:
            result.append((prepared.checkpoint.fn(*prepared.args, **prepared.kwargs), None))
        except BaseException as error:
            result.append((None, error))

    context = copy_context()
    thread = threading.Thread(target=context.run, args=(body,), name=f"kitaru-{prepared.invocation_id}", daemon=True)
    thread.start()
    thread.join(timeout)
    return result[0] if result else (None, _too_long(prepared, timeout))


def _too_long(prepared: Prepared, timeout: float) -> TimeoutError:
    note = "" if prepared.checkpoint.is_async else "; its thread goes on until it ends (runtime='isolated' can be killed)"
    return TimeoutError(f"the checkpoint {prepared.invocation_id!r} took more than its {timeout:g} seconds{note}")
