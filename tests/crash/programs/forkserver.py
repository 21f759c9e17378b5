"""Forks a real process for each order: kitaru is imported here once, and no store is ever opened here.

Orders and answers are lines of JSON on the standard streams. A child that has ended stays a zombie until somebody asks
for it, so its process id is nobody else's and may be signalled. With the last order gone, every child left is killed.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import sys
import time
import traceback
from multiprocessing import get_context

PRELOADED = (
    "asyncio",
    "concurrent.futures.thread",
    "multiprocessing.synchronize",
    "kitaru.client",
    "kitaru.client.client",
    "kitaru.client.executions",
    "kitaru.client.history",
    "kitaru.compose",
    "kitaru.projections.artifacts",
    "kitaru.projections.executions",
    "kitaru.projections.reuse",
    "kitaru.projections.waits",
    "kitaru.runtime.checkpoint",
    "kitaru.runtime.facts",
    "kitaru.runtime.flow",
    "kitaru.runtime.operations",
    "kitaru.runtime.recovery",
    "kitaru.runtime.start",
    "kitaru.runtime.waits",
    "kitaru.store.sqlite.backup",
    "kitaru.store.sqlite.log",
    "kitaru.store.sqlite.verify",
)


def main() -> None:
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    for name in (*PRELOADED, *os.environ.get("CRASH_PRELOADED", "").split()):
        importlib.import_module(name)
    gc.freeze()
    children: set[int] = set()
    answer({"ready": os.getpid()})
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "start":
            barrier = get_context("fork").Barrier(len(order["children"])) if len(order["children"]) > 1 else None
            pids = [start(child, barrier) for child in order["children"]]
            children.update(pids)
            answer({"pids": pids})
        else:
            answer({"status": status(order["pid"], order["seconds"], children)})
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def start(order: dict[str, object], barrier: object) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = run(order, barrier)
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return pid


def run(order: dict[str, object], barrier: object) -> int:
    for number, (path, flags) in enumerate(
        (
            ("/dev/null", os.O_RDONLY),
            (order["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND),
            (order["errors"], os.O_WRONLY | os.O_CREAT | os.O_APPEND),
        )
    ):
        fd = os.open(path, flags, 0o600)
        os.dup2(fd, number)
        os.close(fd)
    os.environ.update(order["environment"])
    os.chdir(order["folder"])
    module, _, name = order["program"].partition(":")
    program = getattr(importlib.import_module(module), name)
    given = dict(order["arguments"])
    if barrier is not None:
        given["barrier"] = barrier
    return program(**given) or 0


def status(pid: int, seconds: float, children: set[int]) -> int | None:
    """The exit code, negative for a signal; None while it runs. A child is asked for until it ended, and once."""
    deadline = time.monotonic() + seconds
    pause = 0.0002
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            children.discard(pid)
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            return None
        time.sleep(pause)
        pause = min(pause * 1.5, 0.01)


def answer(what: dict[str, object]) -> None:
    os.write(1, (json.dumps(what) + "\n").encode())


if __name__ == "__main__":
    main()
