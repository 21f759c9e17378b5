"""`kitaru executions logs`: what an execution printed and logged, at once or as it comes."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from kitaru.cli import output
from kitaru.cli.follow import COMPLETED, FAILED, INTERRUPTED
from kitaru.cli.options import ExecutionId, ListFormat, Project, Store, client_for
from kitaru.cli.output import ListOutput
from kitaru.cli.render import when
from kitaru.domain.errors import KitaruUsageError
from kitaru.domain.status import ExecutionStatus

if TYPE_CHECKING:
    from kitaru.client.client import KitaruClient
    from kitaru.client.logs import LogTail
    from kitaru.client.models import LogEntry

_COMMAND = "executions.logs"
_SOURCES = ("step", "runner")
_BODY = "(flow)"
_CSV = ("timestamp", "level", "checkpoint_name", "invocation_id", "attempt", "message", "filename", "lineno")


def logs(
    execution: ExecutionId,
    checkpoint: Annotated[
        str | None, typer.Option("--checkpoint", "-c", help="Only this checkpoint: name, invocation id or call id.")
    ] = None,
    source: Annotated[
        str, typer.Option("--source", help="step: what its code printed; runner: the runtime's words.")
    ] = "step",
    limit: Annotated[int | None, typer.Option("--limit", "-n", help="The newest N lines.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the execution is finished.")] = False,
    interval: Annotated[float, typer.Option("--interval", min=0.05, help="Seconds between two looks.")] = 0.5,
    grouped: Annotated[bool, typer.Option("--grouped", help="Under a heading for each checkpoint call.")] = False,
    verbose: Annotated[
        int, typer.Option("--verbose", "-v", count=True, help="-v: time, level, checkpoint; -vv: attempt and place, too.")
    ] = 0,
    store: Store = None,
    project: Project = None,
    form: ListFormat = ListOutput.TEXT,
) -> int:
    """Show what an execution printed and logged."""
    if limit is not None and limit < 0:
        raise KitaruUsageError(f"--limit has to be a number from 0, not {limit}")
    if source not in _SOURCES:
        raise KitaruUsageError(f"--source has to be {' or '.join(_SOURCES)}, not {source!r}")
    if follow and grouped:
        raise KitaruUsageError("--grouped needs all lines at once; leave out --follow")
    client = client_for(store, project)
    tail = client.executions.tail_logs(execution, checkpoint=checkpoint, source=source, limit=limit)
    if follow:
        return _follow(client, tail, interval, verbose, is_json=form in (ListOutput.JSON, ListOutput.JSONL))
    found = tail.read()
    if form is ListOutput.JSON:
        output.print_items(_COMMAND, [output.plain(entry) for entry in found])
    elif form is ListOutput.JSONL:
        output.print_lines(output.plain(entry) for entry in found)
    elif form is ListOutput.CSV:
        output.print_csv(_CSV, [output.plain(entry) for entry in found])
    elif grouped:
        _print_grouped(found, verbose)
    else:
        _print(found, verbose)
        if not found:
            output.tell(f"{tail.exec_id} has no logs" + ("" if checkpoint is None else f" of {checkpoint!r}"))
    return 0


def _follow(client: KitaruClient, tail: LogTail, interval: float, verbose: int, *, is_json: bool) -> int:
    was_waiting = False
    try:
        while True:
            now = client.executions.peek(tail.exec_id)  # before the lines: what came with its end is among them
            _say(tail.read(), verbose, is_json=is_json)
            if now.status.is_finished:
                time.sleep(min(interval, 0.2))  # what its end did not take along follows at once
                _say(tail.read(), verbose, is_json=is_json)
                if is_json:
                    output.print_event(_COMMAND, "terminal", output.plain(now))
                else:
                    output.tell(f"{now.exec_id} {now.status.value}")
                return COMPLETED if now.status.is_successful else FAILED
            is_waiting = now.status is ExecutionStatus.WAITING
            if is_waiting and not was_waiting:
                if is_json:
                    output.print_event(_COMMAND, "waiting", output.plain(now))
                else:
                    output.tell(f"{now.exec_id} waits: {now.status_reason or 'for input'}")
            was_waiting = is_waiting
            time.sleep(interval)
    except KeyboardInterrupt:
        if is_json:
            output.print_event(_COMMAND, "interrupted", output.plain(client.executions.peek(tail.exec_id)))
        return INTERRUPTED


def _say(found: Iterable[LogEntry], verbose: int, *, is_json: bool) -> None:
    if is_json:
        for entry in found:
            output.print_event(_COMMAND, "log", output.plain(entry))
    else:
        _print(found, verbose)
        sys.stdout.flush()


def _print(found: Iterable[LogEntry], verbose: int) -> None:
    for entry in found:
        first, *rest = output.clean(entry.message, keep_lines=True).split("\n")
        print(f"{_prefix(entry, verbose)}{first}")
        for line in rest:
            print(f"  {line}" if verbose else line)


def _print_grouped(found: Iterable[LogEntry], verbose: int) -> None:
    """The calls in the order of their first line."""
    groups: dict[str, list[LogEntry]] = {}
    for entry in found:
        attempt = f" attempt {entry.attempt}" if entry.attempt is not None and entry.attempt > 1 else ""
        groups.setdefault(f"{entry.invocation_id or _BODY}{attempt}", []).append(entry)
    for place, (heading, entries) in enumerate(groups.items()):
        print(f"{'' if place == 0 else chr(10)}{output.clean(heading)}")
        for entry in entries:
            for line in output.clean(entry.message, keep_lines=True).split("\n"):
                print(f"  {_prefix(entry, verbose)}{line}")


def _prefix(entry: LogEntry, verbose: int) -> str:
    if not verbose:
        return ""
    parts = [when(entry.timestamp), f"{entry.level:<7}", entry.invocation_id or _BODY]
    if verbose > 1:
        if entry.attempt is not None:
            parts.append(f"attempt {entry.attempt}")
        if entry.filename is not None:
            parts.append(f"{entry.filename}:{entry.lineno}")
    return output.clean("  ".join(parts)) + "  "


COMMANDS = {"logs": logs}
"""The commands by name."""
