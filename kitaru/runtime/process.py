"""The process that executions live in: it stays until they end, and Ctrl-C lets them go at a boundary.

A plain non-daemon thread is not enough: once the main thread has ended, executors and `to_thread` refuse new work. So
live executions are joined before that, by the hook that concurrent.futures itself uses.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
import threading
import time
from asyncio import Runner
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Protocol, cast

from kitaru.domain.errors import KitaruError, KitaruStateError

logger = logging.getLogger("kitaru")
_LOOK_SECONDS = 0.05
_IDLE_LOOKS = 100


class Live(Protocol):
    """An execution with its runner in this process."""

    exec_id: str
    store: str

    def look(self) -> None:
        """Take in what others recorded about it."""
        ...

    def stop(self) -> None:
        """Leave at the next boundary."""
        ...

    def join(self) -> None:
        """Wait until the runner has left."""
        ...


_live: dict[tuple[str, str], Live] = {}
_beginning: set[tuple[str, str]] = set()
_lock = threading.RLock()  # the signal handler may find its own thread holding it
_state = {"installed": False, "interrupted": False, "exiting": False, "watched": False}
_pythons_own: Callable[[int, FrameType | None], object] = signal.default_int_handler
"""The handler in whose place ours stands: it raises KeyboardInterrupt, or cancels the task of asyncio.run."""


@contextmanager
def beginning(store: str, exec_id: str) -> Generator[None]:
    """While it lasts nobody else in this process begins to run that execution. Raises KitaruStateError when one runs it."""
    key = (store, exec_id)
    with _lock:
        if is_here(store, exec_id):
            raise KitaruStateError(f"this process runs the execution {exec_id} already; wait for it", code="runs-here")
        _beginning.add(key)
    try:
        yield
    finally:
        _beginning.discard(key)


def is_here(store: str, exec_id: str) -> bool:
    """Whether this process runs that execution, or is about to."""
    return (store, exec_id) in _live or (store, exec_id) in _beginning


def enter(live: Live) -> None:
    """A runner begins: the process stays for it from now on."""
    with _lock:
        _live[live.store, live.exec_id] = live
        first, _state["installed"] = not _state["installed"], True
        if not _state["watched"]:
            _state["watched"] = True
            threading.Thread(target=_watch, name="kitaru-watch", daemon=True).start()
    if first:
        _register_exit(_stay_until_all_left)
    _take_interrupts()


def _take_interrupts() -> None:
    """Handle Ctrl-C, unless somebody else does, or this is not the thread that can."""
    global _pythons_own
    if threading.current_thread() is not threading.main_thread():
        return
    handler = signal.getsignal(signal.SIGINT)
    method = getattr(handler, "func", None)  # inside asyncio.run it is a partial of the asyncio.Runner's
    if callable(handler) and (handler is signal.default_int_handler or type(getattr(method, "__self__", None)) is Runner):
        _pythons_own = handler
        signal.signal(signal.SIGINT, _interrupt)


def _watch() -> None:
    """Look after what is live here: a cancel reaches a body that calls nothing of ours for an hour."""
    idle = 0
    while idle < _IDLE_LOOKS:
        time.sleep(_LOOK_SECONDS)
        with _lock:
            live = list(_live.values())
            idle = 0 if live else idle + 1
            if idle == _IDLE_LOOKS:
                _state["watched"] = False
        for each in live:
            try:
                each.look()
            except KitaruError:
                pass  # its store was closed, or fails: its own next append says so
            except Exception:  # a fault of the runtime with one of them: the others are still to be looked after
                logger.exception("looking after %s failed", each.exec_id)


def leave(live: Live) -> None:
    """A runner has left."""
    with _lock:
        if _live.get((live.store, live.exec_id)) is live:  # it may have been taken over here, too
            del _live[live.store, live.exec_id]


def find(store: str, exec_id: str) -> Live | None:
    """The live execution with that id in this process, or None."""
    return _live.get((store, exec_id))


def join_all() -> None:
    """Wait until no execution is live in this process."""
    while True:
        with _lock:
            live = list(_live.values())
        if not live:
            return
        for each in live:
            each.join()


def stop_all() -> list[str]:
    """Ask every live execution to leave at its next boundary; their ids."""
    with _lock:
        live = list(_live.values())
    for each in live:
        each.stop()
    return [each.exec_id for each in live]


def _interrupt(signum: int, frame: FrameType | None) -> None:
    """First Ctrl-C: stop at the next boundary. Second: exit now; what was recorded stays recorded."""
    if not _live:
        _pythons_own(signum, frame)
        return
    if _state["interrupted"]:
        os._exit(130)
    _stop_and_say_so()
    if not _state["exiting"]:
        _pythons_own(signum, frame)


def _stop_and_say_so() -> None:
    _state["interrupted"] = True
    lines = [
        f"stopping {exec_id} at its next boundary; go on later with: kitaru recover {exec_id}\n" for exec_id in stop_all()
    ]
    with suppress(AttributeError, OSError, ValueError):  # nobody listens: there may be no stderr, or a closed one
        sys.stderr.write("".join(lines) + "(Ctrl-C again exits at once)\n")
        sys.stderr.flush()


def _stay_until_all_left() -> None:
    _state["exiting"] = True
    _take_interrupts()
    if _live and getattr(sys, "last_type", None) is KeyboardInterrupt and not hasattr(sys, "ps1"):
        _stop_and_say_so()  # the script was ended by a Ctrl-C that another handler took
    join_all()
    if _state["interrupted"]:
        run_exit_hooks = cast("Callable[[], None]", getattr(atexit, "_run_exitfuncs"))  # noqa: B009
        run_exit_hooks()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(130)


def _register_exit(hook: Callable[[], None]) -> None:
    # The interpreter runs these before it forbids new threads and executor work; atexit runs after.
    register = cast("Callable[[Callable[[], None]], None]", getattr(threading, "_register_atexit"))  # noqa: B009
    register(hook)


def after_fork_in_child() -> None:
    """A forked child runs none of its parent's executions."""
    global _lock
    _lock = threading.RLock()
    _live.clear()
    _beginning.clear()
    _state.update(interrupted=False, exiting=False, watched=False)


os.register_at_fork(after_in_child=after_fork_in_child)
