"""Flows on a log that crashes, or lies, at its n-th call. The program is its own composition root: it wires that log in."""

from __future__ import annotations

import os
from typing import Any

from saying import say

from kitaru import compose
from kitaru.domain.errors import KitaruBackendError
from kitaru.runtime import recovery
from kitaru.settings import StoreChoice, resolve_store
from kitaru.store.log import OutcomeUnknown
from kitaru.store.sqlite.log import SQLiteLog

CRASHED = 77
"""The exit code of a crash."""
_CALLS = frozenset({"append", "execute", "head", "read", "load", "query"})


class CrashingLog:
    """Ends the process before or after the n-th call of the store, reads too; nothing is flushed, nothing is closed."""

    def __init__(self, log: Any, at: int, after: bool) -> None:
        self._log = log
        self._left = at
        self._after = after

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._log, name)
        return self._counted(found) if name in _CALLS else found

    def _counted(self, call: Any) -> Any:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self._left -= 1
            is_last = self._left == 0
            if is_last and not self._after:
                os._exit(CRASHED)
            result = call(*args, **kwargs)
            if is_last:
                os._exit(CRASHED)
            return result

        return counted

    @property
    def calls(self) -> int:
        return -self._left


class LyingWriter:
    """The log's writer, whose n-th commit is made and then reported as failed: unknown, or by a real error."""

    def __init__(self, writer: Any, at: int, says_unknown: bool) -> None:
        self._writer = writer
        self._left = at
        self._says_unknown = says_unknown

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)

    def commit(self, member: Any) -> None:
        self._writer.commit(member)
        self._left -= 1
        if self._left == 0:
            if self._says_unknown:
                raise OutcomeUnknown("the test says so")
            raise KitaruBackendError("the test's disk is full", code="disk-full")

    @property
    def commits(self) -> int:
        return -self._left


def use(log: Any) -> None:
    """Make the runtime open this log."""

    def open_log(choice: StoreChoice) -> Any:
        return log

    compose.open_log = open_log


def run(flow: str, inputs: dict[str, Any], at: int = 0, after: bool = False, recovers: bool = False) -> int:
    """Run a flow, or go on with the lost ones; crash at call `at`. Without a crash: how many calls there were."""
    import flows

    log = CrashingLog(compose.open_log(resolve_store()), at, after)
    use(log)
    if recovers:
        for runner in recovery.recover(log, recovery.lost_executions(log, "default")):  # type: ignore[arg-type]
            runner.join()
    else:
        say(value=getattr(flows, flow).run(**inputs).wait(60))
    say(calls=log.calls)
    return 0


def run_lied_to(flow: str, inputs: dict[str, Any], at: int, says_unknown: bool) -> int:
    """Run a flow whose n-th commit is denied. Its end, or the error that the user sees."""
    import flows

    log = compose.open_log(resolve_store())
    assert isinstance(log, SQLiteLog)
    writer = LyingWriter(log.writer, at, says_unknown)
    log.writer = writer  # type: ignore[assignment]
    try:
        handle = getattr(flows, flow).run(**inputs)
        value = handle.wait(60)
    except KitaruBackendError as error:
        say(error=error.code, message=error.message, commits=writer.commits)
    else:
        say(value=value, commits=writer.commits)
    return 0
