"""Starting checkpoint calls beside the flow's body: on the session's threads, or as tasks of an async flow's loop."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from contextvars import copy_context

from kitaru.runtime import calls
from kitaru.runtime.checkpoint import Prepared
from kitaru.runtime.futures import CheckpointFuture
from kitaru.runtime.scope import current


class TaskFuture(Future[calls.Outcome]):
    """The outcome of a call that is a task of the flow's loop: it comes only while the loop runs."""


def submit(prepared: Prepared) -> CheckpointFuture[object]:
    """Start the call; its id is taken already."""
    session = prepared.session
    inner: Future[calls.Outcome]
    if session.is_async and prepared.checkpoint.is_async:
        inner = _as_task(prepared)
    else:
        inner = session.pool.submit(copy_context().run, _outside_the_body, prepared)
    session.submitted.add(inner)
    inner.add_done_callback(session.submitted.discard)
    return CheckpointFuture(inner, prepared.invocation_id, threading.get_ident() if session.is_async else None)


def _outside_the_body(prepared: Prepared) -> calls.Outcome:
    current.set(None)
    return calls.complete_sync(prepared)


def _as_task(prepared: Prepared) -> Future[calls.Outcome]:
    inner = TaskFuture()

    def finished(task: asyncio.Task[calls.Outcome]) -> None:
        if task.cancelled():
            inner.cancel()
            inner.set_running_or_notify_cancel()
        elif (error := task.exception()) is not None:
            inner.set_exception(error)
        else:
            inner.set_result(task.result())

    context = copy_context()
    context.run(current.set, None)
    task = asyncio.get_running_loop().create_task(calls.complete_async(prepared), context=context)
    task.add_done_callback(finished)
    return inner
