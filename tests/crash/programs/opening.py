"""Processes that open stores: at once, again and again, after a fork, and stores that cannot be opened."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import io
import os
import threading
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from typing import Any

from appending import Writer
from saying import say

from kitaru import compose
from kitaru.client import KitaruClient
from kitaru.domain.errors import KitaruError
from kitaru.settings import resolve_store
from kitaru.store.sqlite.log import SQLiteLog


def create_and_run(barrier: Barrier) -> int:
    """Nobody has made the store; a flow runs on it."""
    import flows

    barrier.wait(30)
    handle = flows.chain.run(length=2)
    say(exec_id=handle.exec_id, value=handle.wait(60), store_id=compose.open_log(resolve_store()).store_id)
    return 0


def make_stores(stores: int, barrier: Barrier) -> int:
    """One after the other, while others look; each gets one execution."""
    for number in range(stores):
        barrier.wait(30)
        log = SQLiteLog(f"store-{number}", compose.projectors())
        Writer(log)
        log.close()
    return 0


def look_at_stores(stores: int, barrier: Barrier) -> int:
    """At each while it is being made, until there is something in it."""
    for number in range(stores):
        barrier.wait(30)
        with KitaruClient(f"store-{number}") as client:
            found: list[Any] = []
            while not found:
                try:
                    found = client.executions.list()
                except Exception as error:
                    say(error=repr(error))
    return 0


def open_and_close(cycles: int) -> int:
    """Descriptors and threads after the first cycles, and after all of them."""
    import flows

    for cycle in range(cycles):
        flows.chain.run(length=2).wait(60)
        with KitaruClient() as client:
            client.executions.list()
            client.executions.get(client.executions.latest().exec_id)
        log = compose.open_log(resolve_store())
        log.changes.wait(log.changes.token(), 0.002)
        compose.close_logs()
        if cycle in (4, cycles - 1):
            gc.collect()
            say(descriptors=len(os.listdir("/dev/fd")), threads=threading.active_count())
    return 0


def list_modes() -> int:
    """The permissions of everything that a flow leaves while the store is open, whatever the umask."""
    import flows

    os.umask(0)
    flows.chain.run(length=2).wait(60)
    modes: dict[str, str] = {}
    for folder, folders, files in os.walk("store"):
        for name in [".", *folders, *files]:
            path = os.path.normpath(os.path.join(folder, name))
            modes[path] = oct(os.stat(path).st_mode & 0o777)
    say(modes=modes)
    return 0


def use_after_fork() -> int:
    """A forked child is refused in everything; its parent notices nothing."""
    import flows

    writer = Writer(compose.open_log(resolve_store()))
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        tries: dict[str, Callable[[], Any]] = {
            "append": writer.start_attempt,
            "run": lambda: flows.chain.run(length=1),
            "read": lambda: list(writer.log.read(writer.exec_id)),
            "list": lambda: KitaruClient().executions.list(),
            "open": lambda: SQLiteLog(resolve_store().location),
            "recover": lambda: KitaruClient().executions.recover(),
        }
        for name, do in tries.items():
            say(**{"tried": name, **outcome(do)})
        os._exit(0)
    os.close(write)
    os.read(read, 1)
    assert os.waitpid(child, 0)[1] == 0
    writer.complete(writer.start_attempt())
    say(exec_id=writer.exec_id, version=writer.version, ran=flows.chain.run(length=2).wait(60))
    return 0


def outcome(do: Callable[[], Any]) -> dict[str, Any]:
    try:
        return {"result": repr(do())}
    except KitaruError as error:
        return {"error": type(error).__name__, "code": error.code, "message": error.message}


def try_everything(commands: list[list[str]], powerless: bool = False) -> int:
    """What a user would do with the store, by the library and by the command line. powerless: as who may not write it."""
    if powerless:
        refusal = give_up_power()
        if refusal is not None:
            say(not_possible=refusal)
            return 0
    import flows

    from kitaru.cli import main

    tries: dict[str, Callable[[], Any]] = {
        "run": lambda: flows.chain.run(length=2).wait(60),
        "list": lambda: len(KitaruClient().executions.list()),
        "get": lambda: KitaruClient().executions.latest().status.value,
        "info": lambda: KitaruClient().info().executions,
        "recover": lambda: KitaruClient().executions.recover(),
        "verify": lambda: compose.verify_store(resolve_store()).problems,
        "backup": lambda: compose.backup_store(resolve_store(), "copy"),
        "open": lambda: compose.open_log(resolve_store()),
    }
    for name, do in tries.items():
        say(**{"tried": name, **outcome(do)})
    for command in commands:
        with contextlib.redirect_stdout(io.StringIO()) as output, contextlib.redirect_stderr(io.StringIO()) as errors:
            code = main(command)
        say(command=command, code=code, output=output.getvalue(), errors=errors.getvalue())
    return 0


def give_up_power() -> str | None:
    """Who may write every file takes that back (CAP_DAC_OVERRIDE), for this process. Why not, where it cannot be."""
    if os.getuid() != 0:
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "capset"):
        return "this user may write every file, and this system has no capset"
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()
    if libc.capget(header, sets):
        return f"capget: {os.strerror(ctypes.get_errno())}"
    sets[0] &= ~(1 << 1)  # effective
    if libc.capset(header, sets):
        return f"capset: {os.strerror(ctypes.get_errno())}"
    return None
