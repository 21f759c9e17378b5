"""An execution in the foreground of a command: its progress while it runs, its value or failure when it is left."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kitaru.cli import follow, output, render
from kitaru.cli.output import Output
from kitaru.domain.errors import KitaruExecutionError
from kitaru.domain.status import ExecutionStatus

if TYPE_CHECKING:
    from kitaru.cli.line import Line
    from kitaru.client.client import KitaruClient
    from kitaru.client.models import Execution
    from kitaru.runtime.handle import FlowHandle
    from kitaru.runtime.runner import Runner

LOOK_SECONDS = 0.25
LEFT_TO_A_WORKER = "left to a worker; when none is there: kitaru worker"
AT_ONCE = 32
"""Executions that one command runs at the same time: each has a thread, and more of its own."""


def wait_for_place(runners: Sequence[Runner], at_once: int = AT_ONCE) -> None:
    """Stay until fewer than `at_once` of the runners are live."""
    while len(live := [runner for runner in runners if not runner.done.is_set()]) >= at_once:
        live[0].done.wait(LOOK_SECONDS)


def finish(command: str, handle: FlowHandle[object], client: KitaruClient, form: Output, line: Line) -> int:
    """Stay until the execution has ended or was left waiting, print what it came to, and give the exit code."""
    _stay(handle, client, line)
    line.end()
    execution = client.executions.get(handle.exec_id)
    value = _value(handle) if execution.status.is_successful else None
    if form is Output.JSON:
        output.print_item(command, output.plain(execution), value=value)
    elif execution.status.is_successful:
        print(output.clean(value, keep_lines=True) if isinstance(value, str) else output.dumped(value, indent=2))
    elif execution.failure is not None:
        output.tell(f"Error: {render.failure_line(execution.failure)}")
    if execution.status.is_finished:
        lasted = render.lasted(execution.duration) or "?"
        output.tell(f"{execution.status.value} in {lasted}: kitaru executions get {execution.exec_id}")
    else:
        tell_left(execution)
    return follow.code_of(execution.status)


def tell_left(execution: Execution) -> None:
    """Say how to go on with an execution that is not finished."""
    if execution.pending_waits:
        names = ", ".join(wait.name for wait in execution.pending_waits)
        which = f" --wait {shlex.quote(execution.pending_waits[0].name)}" if len(execution.pending_waits) > 1 else ""
        output.tell(f"left waiting for {names}: kitaru executions input {execution.exec_id}{which}")
    else:
        output.tell(f"left {execution.status.value}: {execution.status_reason or execution.exec_id}")


def detached(command: str, client: KitaruClient, exec_id: str, form: Output) -> int:
    """Say that a worker takes the execution; the exit code."""
    execution = client.executions.get(exec_id)
    if form is Output.JSON:
        output.print_item(command, output.plain(execution))
    else:
        print(execution.exec_id)
    output.tell(LEFT_TO_A_WORKER)
    return 0


def _stay(handle: FlowHandle[object], client: KitaruClient, line: Line) -> None:
    """Wait for the end, showing on a terminal how far it is; return as well when it waits and nobody stays for it."""
    if client.executions.peek(handle.exec_id).runner == "queued":
        output.tell(LEFT_TO_A_WORKER)
    while True:
        try:
            handle.wait(LOOK_SECONDS)
            return
        except KitaruExecutionError:
            return
        except TimeoutError:
            found = client.executions.peek(handle.exec_id)
        if found.status is ExecutionStatus.WAITING:
            if found.runner == "none":
                return
        elif not found.status.is_finished:
            line.draw(f"{output.count(found.checkpoint_count, 'checkpoint')}   {found.status_reason or ''}".rstrip())


def _value(handle: FlowHandle[object]) -> object:
    from kitaru.store.values import encode, to_plain

    return to_plain(encode(handle.get()))
