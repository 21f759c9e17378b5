"""A worker: takes executions that nobody runs and that wait for nothing, and runs them in this process.

Those are queued ones (`run(stack="worker")`), those whose wait was answered or whose time has come, and those whose runner
died. Several workers on one store are safe: a claim is decided in the store, and one of them wins. A worker does not stay
for a wait; it leaves at once and takes what can run.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import cast

from kitaru.domain.errors import KitaruBackendError, KitaruError, KitaruNotFoundError, KitaruStateError
from kitaru.runtime import recovery
from kitaru.runtime.clock import installed as installed_clock
from kitaru.runtime.runner import Runner
from kitaru.store.log import EventLog

logger = logging.getLogger("kitaru")
_LOOK_SECONDS = 1.0
REFUSED_SECONDS = 30.0
"""How long an execution is left alone whose flow could not be loaded."""
_NEXT_DUE = "SELECT min(expires_at) FROM pending_waits WHERE expires_at > ?"


class Worker:
    """Runs up to `concurrency` executions at once until `stop`."""

    def __init__(
        self, log: EventLog, project: str, *, concurrency: int = 4, refused_seconds: float = REFUSED_SECONDS
    ) -> None:
        self._log = log
        self._project = project
        self._concurrency = concurrency
        self._refused_seconds = refused_seconds
        self._stopping = threading.Event()
        self._live: dict[str, Runner] = {}
        self._refused: dict[str, tuple[str, float]] = {}

    def stop(self) -> None:
        """Take nothing more, and leave what runs at its next boundary."""
        self._stopping.set()
        for runner in list(self._live.values()):
            runner.stop()

    def run(self) -> None:
        """Work until `stop`, then wait until everything that ran here has left."""
        while not self._stopping.is_set():
            token = self._log.changes.token()
            self.turn()
            self._log.changes.wait(token, self._pause())
        for runner in self._live.values():
            runner.stop()  # it may have been taken while `stop` was called
        for runner in self._live.values():
            runner.join()

    def turn(self) -> int:
        """Take what can be taken now; how many were."""
        for exec_id in [exec_id for exec_id, runner in self._live.items() if runner.done.is_set()]:
            error = self._live.pop(exec_id).error
            logger.info("left %s", exec_id)
            if isinstance(error, KitaruBackendError):  # it could not go on, and could not say so
                self._refused[exec_id] = (str(error), time.monotonic() + self._refused_seconds)
        taken = 0
        if len(self._live) >= self._concurrency:
            return 0
        for exec_id in recovery.candidates(self._log, self._project):
            if self._stopping.is_set() or len(self._live) >= self._concurrency:
                break
            if exec_id not in self._live and not self._was_refused(exec_id) and self._take(exec_id):
                taken += 1
        return taken

    def _was_refused(self, exec_id: str) -> bool:
        """Whether its code could not be had a short while ago: to look runs the file's code again."""
        refused = self._refused.get(exec_id)
        return refused is not None and time.monotonic() < refused[1]

    def _take(self, exec_id: str) -> bool:
        try:
            if not recovery.is_lost(self._log, self._log.head(exec_id)):
                return False
            runner = recovery.take_over(self._log, exec_id, stay_seconds=0.0)
        except (KitaruStateError, KitaruNotFoundError):
            return False  # another worker was faster, or it has ended
        except Exception as error:  # whatever is wrong with one execution, the others are still there
            said = str(error) if isinstance(error, KitaruError) else repr(error)
            if self._refused.get(exec_id, ("", 0.0))[0] != said:
                logger.warning("cannot take %s: %s", exec_id, said)
            self._refused[exec_id] = (said, time.monotonic() + self._refused_seconds)
            return False
        self._refused.pop(exec_id, None)
        if runner is None:
            return False
        self._live[exec_id] = runner
        logger.info("took %s", exec_id)
        return True

    def _pause(self) -> float:
        if len(self._live) >= self._concurrency:
            return 0.05  # a runner that ends commits, and so wakes; this is for one that only left
        now = installed_clock().now()
        due = cast("list[tuple[int | None]]", self._log.query(_NEXT_DUE, (now,)))[0][0]
        return _LOOK_SECONDS if due is None else min(_LOOK_SECONDS, max(0.0, (due - now) / 1_000_000))
