"""Exports that are killed, and exports to a disk that is full."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from typing import Any

from saying import say

from kitaru.analytics.export.run import export as run_export
from kitaru.analytics.export.run import make_wanted
from kitaru.client import KitaruClient
from kitaru.domain.errors import KitaruError
from kitaru.store.read import open_store

_STEPS = ("mkdir", "link", "rename", "replace", "symlink", "unlink", "fsync", "rmdir")


def export(tables: list[str], partition_by: str = "") -> int:
    """Export the store to `out`; say when it begins and when it is done."""
    say(begins=True)
    with KitaruClient() as client:
        client.export("out", tables=tables, partition_by=partition_by or ())
    say(done=True)
    return 0


def export_by_twos(partition_by: str = "") -> int:
    """Export executions in buckets of two, which are written side by side."""
    say(begins=True)
    _by_twos(partition_by)
    say(done=True)
    return 0


def export_together(barrier: Barrier) -> int:
    """Export executions in buckets of two at the same time as another process; say what it came to."""
    barrier.wait()
    try:
        _by_twos()
    except KitaruError as error:
        say(code=error.code)
    else:
        say(code=None)
    return 0


def _by_twos(partition_by: str = "") -> None:
    reads = open_store(os.environ["KITARU_STORE"])
    try:
        wanted = make_wanted("default", ["executions"], [partition_by] if partition_by else (), None, None)
        run_export(reads, "out", wanted, bucket=2)
    finally:
        reads.close()


def export_until(tables: list[str], step: int) -> int:
    """The same, and gone without a word before the `step`-th change of the folder."""
    count = 0

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal count
            count += 1
            if count == step:
                os._exit(9)
            return real(*arguments, **named)

        return call

    for name in _STEPS:
        setattr(os, name, counted(getattr(os, name)))
    return export(tables)


def export_into(limit: int, *, by_twos: bool = False) -> int:
    """Export with files that may not grow past `limit` bytes; the store is open before."""
    code, message = None, ""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    with KitaruClient() as client:
        client.executions.list()
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            _by_twos() if by_twos else client.export("out", tables=["executions", "events"])
        except KitaruError as error:
            code, message = error.code, error.message
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    say(code=code, message=message)
    return 0
