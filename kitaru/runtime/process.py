"""The process that executions live in: it stays until they end, and Ctrl-C lets them go at a boundary.

A plain non-daemon thread is not enough: once the main thread has ended, executors and `to_thread` refuse new work. So
live executions are joined before that, by the hook that concurrent.futures itself uses.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Protocol, cast


class Live(Protocol):
    """An execution with its runner in this process."""

    exec_id: str
    store: str

    def stop(self) -> None:
        """Leave at the next boundary."""
        ...

    def join(self) -> None:
        """Wait until the runner has left."""
        ...


_live: dict[tuple[str, str], Live] = {}
_lock = threading.Lock()
_state = {"installed": False, "interrupted": False, "exiting": False}


def enter(live: Live) -> None:
    """A runner begins: the process stays for it from now on."""
    with _lock:
        _live[live.store, live.exec_id] = live
        first, _state["installed"] = not _state["installed"], True
    if first:
        _register_exit(_stay_until_all_left)
    main = threading.main_thread()
    if threading.current_thread() is main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


def leave(live: Live) -> None:
    """A runner has left."""
    with _lock:
        _live.pop((live.store, live.exec_id), None)


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


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    """First Ctrl-C: stop at the next boundary. Second: exit now; what was recorded stays recorded."""
    if _state["interrupted"]:
        os._exit(130)
    _state["interrupted"] = True
    stopping = stop_all()
    if not stopping:
        _state["interrupted"] = False
        raise KeyboardInterrupt
    for exec_id in stopping:
        sys.stderr.write(f"stopping {exec_id} at its next boundary; go on later with: kitaru recover {exec_id}\n")
    sys.stderr.write("(Ctrl-C again exits at once)\n")
    sys.stderr.flush()
    if not _state["exiting"]:
        raise KeyboardInterrupt


def _stay_until_all_left() -> None:
    _state["exiting"] = True
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
    _live.clear()
    _state.update(interrupted=False, exiting=False)


os.register_at_fork(after_in_child=after_fork_in_child)
