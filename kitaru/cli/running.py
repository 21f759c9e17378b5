"""`kitaru run` and `kitaru recover`: flows in the foreground of this process."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from kitaru.cli import follow, output, render
from kitaru.cli.options import Format, Project, Store, client_for
from kitaru.cli.output import Output
from kitaru.domain.errors import KitaruError, KitaruExecutionError, KitaruUsageError
from kitaru.domain.status import ExecutionStatus

if TYPE_CHECKING:
    from kitaru.client.client import KitaruClient
    from kitaru.client.models import Execution
    from kitaru.runtime.handle import FlowHandle
    from kitaru.runtime.runner import Runner

_LOOK_SECONDS = 0.25


def run(
    target: Annotated[str, typer.Argument(metavar="TARGET", help="FILE.py:flow or module:flow.")],
    given: Annotated[
        str | None, typer.Option("--input", "-i", help="The flow's inputs: a JSON object, or @FILE with one.")
    ] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="A tag for this execution.")] = None,
    store: Store = None,
    project: Project = None,
    form: Format = Output.TEXT,
) -> int:
    """Run a flow and wait for its end: exit code 0 completed, 1 failed or cancelled, 6 left waiting."""
    from kitaru.runtime.code import load_flow
    from kitaru.settings import configure

    inputs = read_inputs(given)
    client = client_for(store, project)
    configure(store=client.store.location, project=client.project)
    flow = load_flow(target)
    handle = (flow.options(tags=tag) if tag else flow).run(**inputs)
    output.tell(f"running {flow.name}: {handle.exec_id}")
    _wait(handle, client)
    execution = client.executions.get(handle.exec_id)
    value = _value(handle) if execution.status.is_successful else None
    if form is Output.JSON:
        output.print_item("run", output.plain(execution), value=value)
    elif execution.status.is_successful:
        print(output.clean(value, keep_lines=True) if isinstance(value, str) else output.dumped(value, indent=2))
    elif execution.failure is not None:
        output.tell(f"Error: {render.failure_line(execution.failure)}")
    output.tell(
        f"{execution.status.value} in {render.lasted(execution.duration) or '?'}: kitaru executions get {execution.exec_id}"
    )
    return follow.code_of(execution.status)


def recover(
    execution: Annotated[
        str | None, typer.Argument(metavar="[EXECUTION]", help="Only this one: its id, or the beginning of it.")
    ] = None,
    target: Annotated[str | None, typer.Option("--target", help="FILE.py:flow: where the code is now.")] = None,
    store: Store = None,
    project: Project = None,
    form: Format = Output.TEXT,
) -> int:
    """Go on with executions whose runner is gone, and wait for their end."""
    from kitaru import compose
    from kitaru.settings import configure

    client = client_for(store, project)
    configure(store=client.store.location, project=client.project)
    runners: list[Runner] = []
    recovered: list[str] = []
    refused: list[KitaruError] = []
    for found in client.executions.find_lost(execution):
        try:
            runners += compose.recover(client.store, [found], target)
            recovered.append(found)
            output.tell(f"recovering {found}")
        except KitaruError as error:
            if execution is not None:
                raise
            refused.append(error)
            output.tell(f"{found} was not recovered: {error.message}")
    for runner in runners:
        while not runner.done.wait(_LOOK_SECONDS):
            pass
    ended = [client.executions.get(found) for found in recovered]
    if form is Output.JSON:
        output.print_items("recover", [output.plain(found) for found in ended])
    elif ended:
        render.execution_table(ended)
    elif not refused:
        output.tell("nothing to recover")
    return _code(ended, refused)


def _code(ended: list[Execution], refused: list[KitaruError]) -> int:
    from kitaru.cli.app import code_of

    codes = [follow.code_of(found.status) for found in ended]
    if refused:
        return code_of(refused[0])
    return follow.FAILED if follow.FAILED in codes else follow.WAITING if follow.WAITING in codes else follow.COMPLETED


def read_inputs(given: str | None) -> dict[str, object]:
    """`--input` as keyword arguments. Raises KitaruUsageError."""
    text = given
    if given is not None and given.startswith("@"):
        try:
            text = sys.stdin.read() if given == "@-" else Path(given[1:]).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise KitaruUsageError(f"--input {given} cannot be read: {error}") from None
    if text is None:
        return {}
    try:
        inputs: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise KitaruUsageError(f'--input is no JSON ({error}); type an object such as \'{{"topic": "bees"}}\'') from None
    if not isinstance(inputs, dict):
        raise KitaruUsageError("--input has to be a JSON object: the flow's inputs by name")
    return cast("dict[str, object]", inputs)


def _wait(handle: FlowHandle[object], client: KitaruClient) -> None:
    """Wait for the end, showing on a terminal how far it is."""
    is_shown = sys.stderr.isatty()
    try:
        while True:
            try:
                handle.wait(_LOOK_SECONDS if is_shown else None)
                return
            except TimeoutError:
                _progress(client, handle.exec_id)
    except KitaruExecutionError:
        return
    finally:
        if is_shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _progress(client: KitaruClient, exec_id: str) -> None:
    found = client.executions.list(limit=20)
    mine = next((execution for execution in found if execution.exec_id == exec_id), None)
    if mine is None or mine.status is not ExecutionStatus.RUNNING:
        return
    text = f"{mine.checkpoint_count} checkpoints   {mine.status_reason or ''}"
    print(f"\r\x1b[K{output.clean(text)[:100]}", end="", file=sys.stderr, flush=True)


def _value(handle: FlowHandle[object]) -> object:
    from kitaru.store.values import encode, to_plain

    return to_plain(encode(handle.get()))


COMMANDS = {"run": run, "recover": recover}
"""The commands by name."""
