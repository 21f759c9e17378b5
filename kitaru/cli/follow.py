"""Following an execution to its end: events as they come, or the execution as it changes."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from kitaru.cli import output, render
from kitaru.domain.status import ExecutionStatus

if TYPE_CHECKING:
    from kitaru.client.client import KitaruClient
    from kitaru.client.models import Execution

COMPLETED, FAILED, INTERRUPTED, WAITING = 0, 1, 130, 6


def code_of(status: ExecutionStatus) -> int:
    """The exit code of `run` and its like for how an execution is left."""
    if status.is_finished:
        return COMPLETED if status.is_successful else FAILED
    return WAITING


def events(client: KitaruClient, execution: str, command: str, *, is_json: bool) -> int:
    """Print events until the execution is finished; the exit code."""
    try:
        for event in client.executions.events(execution, follow=True):
            if is_json:
                output.print_event(command, "log", output.plain(event))
                if event.type == "WaitOpened":
                    output.print_event(command, "waiting", output.plain(client.executions.get(execution)))
            else:
                print(render.event_line(event), flush=True)
    except KeyboardInterrupt:
        return _interrupted(client, execution, command, is_json=is_json)
    return _ended(client.executions.get(execution), command, is_json=is_json)


def watch(client: KitaruClient, execution: str, interval: float, *, is_json: bool) -> int:
    """Show the execution as it changes, until it is finished; the exit code.

    On a terminal it is drawn over again, anywhere else each change is a line.
    """
    if not is_json and sys.stdout.isatty() and os.environ.get("TERM") not in (None, "", "dumb"):
        return _draw(client, execution, interval)
    command = "executions.watch"
    shown: tuple[int, str] | None = None
    try:
        while True:
            found = client.executions.peek(execution)
            state = (found.version, found.runner)
            if state != shown:
                found = client.executions.get(found.exec_id)
                _changed(found, command, is_json=is_json)
                shown = (found.version, found.runner)
                if found.status.is_finished:
                    return _ended(found, command, is_json=is_json)
            time.sleep(interval)
    except KeyboardInterrupt:
        return _interrupted(client, execution, command, is_json=is_json)


def _draw(client: KitaruClient, execution: str, interval: float) -> int:
    from kitaru.cli.screen import Screen

    try:
        with Screen() as screen:
            found = client.executions.get(execution)
            while not found.status.is_finished:
                screen.show(found)
                time.sleep(interval)
                now = client.executions.peek(found.exec_id)  # which reads none of its calls
                if (now.version, now.runner) != (found.version, found.runner):
                    found = client.executions.get(found.exec_id)
    except KeyboardInterrupt:
        output.tell(f"it goes on; look again with: kitaru executions watch {execution}")
        return INTERRUPTED
    render.execution_text(found)
    return _ended(found, "executions.watch", is_json=False)


def _changed(found: Execution, command: str, *, is_json: bool) -> None:
    if is_json:
        waits = found.status is ExecutionStatus.WAITING
        output.print_event(command, "waiting" if waits else "log", output.plain(found))
        return
    calls = found.checkpoints or ()
    done = sum(call.status == "completed" for call in calls)
    running = " ".join(call.invocation_id for call in calls if call.status == "running")
    parts = (found.status.value, f"{done}/{len(calls)} checkpoints", running and f"running {running}", found.status_reason)
    print(output.clean("   ".join(part for part in parts if part)), flush=True)


def _ended(found: Execution, command: str, *, is_json: bool) -> int:
    if is_json:
        output.print_event(command, "terminal", output.plain(found))
    else:
        output.tell(f"{found.exec_id} {found.status.value}")
    return code_of(found.status)


def _interrupted(client: KitaruClient, execution: str, command: str, *, is_json: bool) -> int:
    if is_json:
        output.print_event(command, "interrupted", output.plain(client.executions.get(execution)))
    return INTERRUPTED
