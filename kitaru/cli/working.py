"""`kitaru worker`: runs what nobody runs, until it is told to stop."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from datetime import UTC, datetime
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from kitaru.cli import follow, output
from kitaru.cli.options import Format, Project, Store, client_for
from kitaru.cli.output import Output
from kitaru.domain.errors import KitaruUsageError

if TYPE_CHECKING:
    from kitaru.runtime.worker import Worker


def worker(
    stack: Annotated[str, typer.Option("--stack", help="The stack that it works for.")] = "worker",
    concurrency: Annotated[int, typer.Option("--concurrency", "-c", min=1, help="Executions at once.")] = 4,
    store: Store = None,
    project: Project = None,
    form: Format = Output.TEXT,
) -> int:
    """Take queued executions, answered waits, due timers and what lost its runner, and run them until SIGTERM or Ctrl-C."""
    from kitaru import compose
    from kitaru.settings import configure
    from kitaru.stacks import checked_stack

    if checked_stack(stack) != "worker":
        raise KitaruUsageError(f"the stack {stack!r} has no workers: its flows run in the process that starts them")
    client = client_for(store, project)
    configure(store=client.store.location, project=client.project)
    working = compose.make_worker(client.store, client.project, concurrency)
    logger = logging.getLogger("kitaru")
    handler = _Told() if form is Output.JSON else logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Cleaned("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%SZ"))
    logger.addHandler(handler)
    logger.setLevel(min(logging.INFO, logger.level or logging.INFO))
    output.tell(f"working on {client.store.location}, up to {concurrency} at once; SIGTERM or Ctrl-C drains")
    stopped_by = _Signals(working)
    try:
        working.run()
    finally:
        stopped_by.restore()
        logger.removeHandler(handler)
    output.tell("drained")
    is_interrupted = stopped_by.received == signal.SIGINT
    if form is Output.JSON:
        output.print_event("worker", "interrupted" if is_interrupted else "terminal", None)
    return follow.INTERRUPTED if is_interrupted else 0


class _Cleaned(logging.Formatter):
    """Log lines with stored text made harmless, in UTC."""

    converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        return output.clean(super().format(record), keep_lines=True)


class _Told(logging.Handler):
    """Log lines as a followed stream."""

    def emit(self, record: logging.LogRecord) -> None:
        at = datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z")  # as everywhere in JSON
        output.print_event("worker", "log", {"timestamp": at, "level": record.levelname, "message": record.getMessage()})


class _Signals:
    """The first SIGTERM or SIGINT drains the worker, the second exits at once."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self.received: int | None = None
        self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGTERM, signal.SIGINT)}

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self.received is not None:
            os._exit(follow.INTERRUPTED)  # what was recorded stays recorded
        self.received = signum
        os.write(2, b"draining: what runs leaves at its next boundary; the same signal again exits at once\n")
        self._worker.stop()

    def restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


COMMANDS = {"worker": worker}
"""The commands by name."""
