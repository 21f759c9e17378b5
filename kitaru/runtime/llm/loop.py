"""The event loop on which providers are asked: one daemon thread for the process, whoever calls, so connections are kept.

A caller's own loop is not used: a plain flow has none, and one that ends would take its connections with it.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar

R = TypeVar("R")

_PATIENCE = 1.0
"""Seconds that connections have to close at the process's end."""
_loop: asyncio.AbstractEventLoop | None = None
_starting = threading.Lock()


def _after_fork_in_child() -> None:
    global _loop, _starting
    _loop, _starting = None, threading.Lock()  # the thread stayed behind


os.register_at_fork(after_in_child=_after_fork_in_child)


def submit(coroutine: Coroutine[object, object, R]) -> Future[R]:
    """Run it there. Cancelling the future cancels it."""
    return asyncio.run_coroutine_threadsafe(coroutine, _running())


def at_end(close: Callable[[], Awaitable[None]]) -> None:
    """Have it awaited there when the process ends."""
    _closers.append(close)


_closers: list[Callable[[], Awaitable[None]]] = []


def _running() -> asyncio.AbstractEventLoop:
    global _loop
    with _starting:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            thread = threading.Thread(target=_loop.run_forever, name="kitaru-llm", daemon=True)
            thread.start()
            atexit.register(_end, _loop, thread, os.getpid())
        return _loop


def _end(loop: asyncio.AbstractEventLoop, thread: threading.Thread, pid: int) -> None:
    if os.getpid() != pid:  # a forked child has the loop's memory and not its thread
        return

    async def close() -> None:
        with suppress(Exception):
            for each in _closers:
                await each()

    with suppress(Exception):
        asyncio.run_coroutine_threadsafe(close(), loop).result(_PATIENCE)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(_PATIENCE)
    if not thread.is_alive():
        loop.close()
