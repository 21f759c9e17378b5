"""Whether an async flow can do anything but wait: its runner leaves only when it cannot.

Seen are calls under way, awaited children, and tasks in asyncio's own sleeps, threads and streams. What another library
awaits in a flow's body is not seen: such work belongs in a checkpoint.
"""

from __future__ import annotations

import asyncio
import os
from types import CodeType, CoroutineType
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from kitaru.runtime.session import Session

_LINGER_TURNS = 10
"""Turns of the loop in which other tasks may begin something."""
_ASYNCIO = os.path.dirname(asyncio.__file__)
_FOR_OTHER_TASKS = frozenset(
    os.path.join(_ASYNCIO, name) for name in ("locks.py", "queues.py", "taskgroups.py", "timeouts.py")
)
_TASKS = os.path.join(_ASYNCIO, "tasks.py")


async def is_idle(session: Session) -> bool:
    """Whether nothing but the parked waits is left to happen."""
    for _ in range(_LINGER_TURNS):
        await asyncio.sleep(0)
        if session.state.in_flight or session.submitted or session.under_way:
            return False
    watching = asyncio.current_task()
    return not any(task is not watching and _does_something(task) for task in asyncio.all_tasks())


def _does_something(task: asyncio.Task[object]) -> bool:
    """Whether the task stands in a function of asyncio that ends by itself: a sleep, a thread, a stream."""
    awaited: object = task.get_coro()
    code: CodeType | None = None
    while isinstance(awaited, CoroutineType):
        innermost = cast("CoroutineType[object, object, object]", awaited)
        code, awaited = innermost.cr_code, innermost.cr_await
    if code is None:
        return False
    file = code.co_filename
    if file == _TASKS:
        return code.co_name == "sleep"
    return os.path.dirname(file) == _ASYNCIO and file not in _FOR_OTHER_TASKS
