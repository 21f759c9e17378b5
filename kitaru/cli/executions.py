"""`kitaru executions …`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from kitaru.cli import follow, output, render
from kitaru.cli.options import (
    ExecutionId,
    Flow,
    Format,
    ListFormat,
    Project,
    Since,
    Stack,
    Status,
    Store,
    Tags,
    Until,
    Where,
    Yes,
    absence,
    client_for,
)
from kitaru.cli.output import ListOutput, Output
from kitaru.cli.typed import conditions
from kitaru.domain.errors import KitaruUsageError

if TYPE_CHECKING:
    from kitaru.client.models import Execution

_CSV = (
    "exec_id", "flow_name", "status", "started_at", "ended_at", "duration", "stack_name", "checkpoint_count",
    "artifact_count", "runner", "tags", "metadata", "status_reason", "failure",
)  # fmt: skip

HELP = "See executions, answer them, steer them."


def get(
    execution: ExecutionId,
    at: Annotated[int | None, typer.Option("--at", help="As it was after that many events.")] = None,
    store: Store = None,
    project: Project = None,
    form: Format = Output.TEXT,
) -> None:
    """Show one execution in full."""
    _show("executions.get", client_for(store, project).executions.get(execution, at), form)


def list_(
    flow: Flow = None,
    status: Status = None,
    stack: Stack = None,
    tag: Tags = None,
    since: Since = None,
    until: Until = None,
    where: Where = None,
    limit: Annotated[int, typer.Option("--limit", "-n", help="The most to show; 0 shows all.")] = 20,
    page: Annotated[int | None, typer.Option("--page", help="Which page, from 1.")] = None,
    size: Annotated[int | None, typer.Option("--size", help="Executions on a page.")] = None,
    store: Store = None,
    project: Project = None,
    form: ListFormat = ListOutput.TEXT,
) -> None:
    """List executions, newest first."""
    paged = page is not None or size is not None
    if limit < 0:
        raise KitaruUsageError(f"--limit has to be a number from 0, not {limit}")
    client = client_for(store, project)
    found = client.executions.list(
        flow, status=status or None, stack=stack, tags=tag or None, since=since, until=until, where=conditions(where or []),
        limit=None if paged or limit == 0 else limit, page=page, size=size,
    )  # fmt: skip
    if form is ListOutput.TEXT:
        if found:
            render.execution_table(found)
        else:
            is_filtered = any((flow, status, stack, tag, since, until, where))
            is_past = page is not None and page > 1
            none = "no executions on that page" if is_past else "no executions match" if is_filtered else "no executions yet"
            output.tell(absence(client) or f"{none} in {client.store.location}")
        if not paged and len(found) == limit and sys.stdout.isatty():
            output.tell(f"the newest {limit}; --limit N shows more")
        return
    items = [output.plain(execution) for execution in found]
    if form is ListOutput.JSON:
        output.print_items("executions.list", items)
    elif form is ListOutput.JSONL:
        output.print_lines(items)
    else:
        output.print_csv(_CSV, items)


def latest(
    flow: Flow = None,
    status: Status = None,
    stack: Stack = None,
    store: Store = None,
    project: Project = None,
    form: Format = Output.TEXT,
) -> None:
    """Show the newest execution in full."""
    found = client_for(store, project).executions.latest(flow, status=status or None, stack=stack)
    _show("executions.latest", found, form)


def events(
    execution: ExecutionId,
    follow_: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the execution is finished.")] = False,
    store: Store = None,
    project: Project = None,
    form: ListFormat = ListOutput.TEXT,
) -> int:
    """Show what happened, event by event."""
    client = client_for(store, project)
    if follow_:
        return follow.events(client, execution, "executions.events", is_json=form in (ListOutput.JSON, ListOutput.JSONL))
    found = client.executions.events(execution)
    if form is ListOutput.TEXT:
        for event in found:
            print(render.event_line(event))
    elif form is ListOutput.JSON:
        output.print_items("executions.events", [output.plain(event) for event in found])
    elif form is ListOutput.JSONL:
        output.print_lines(output.plain(event) for event in found)
    else:
        output.print_csv(("version", "at", "type", "data", "position", "event_id"), [output.plain(event) for event in found])
    return 0


def watch(
    execution: ExecutionId,
    interval: Annotated[float, typer.Option("--interval", min=0.05, help="Seconds between two looks.")] = 0.5,
    store: Store = None,
    project: Project = None,
    form: Format = Output.TEXT,
) -> int:
    """Watch an execution until it is finished."""
    return follow.watch(client_for(store, project), execution, interval, is_json=form is Output.JSON)


def tag(
    execution: ExecutionId,
    add: Annotated[list[str] | None, typer.Option("--add", help="A tag to add.")] = None,
    remove: Annotated[list[str] | None, typer.Option("--remove", help="A tag to remove.")] = None,
    store: Store = None,
    project: Project = None,
    form: Format = Output.TEXT,
) -> None:
    """Add and remove tags."""
    found = client_for(store, project).executions.tag(execution, add or (), remove or ())
    if form is Output.JSON:
        output.print_item("executions.tag", output.plain(found))
    else:
        output.print_fields((("Execution", found.exec_id), ("Tags", " ".join(found.tags))))


def delete(
    execution: ExecutionId,
    yes: Yes = False,
    store: Store = None,
    project: Project = None,
    form: Format = Output.TEXT,
) -> None:
    """Delete a finished execution with its events and values, for ever."""
    client = client_for(store, project)
    found = client.executions.get(execution)
    if not yes:
        if not sys.stdin.isatty() or form is Output.JSON:
            raise KitaruUsageError(f"deleting {found.exec_id} cannot be undone; say so with --yes")
        if not typer.confirm(output.clean(f"Delete {found.exec_id} ({found.flow_name}) for ever?"), err=True):
            raise typer.Abort
    is_gone = client.executions.delete(found.exec_id)
    if form is Output.JSON:
        output.print_item("executions.delete", {"exec_id": found.exec_id, "deleted": True, "in_wal": not is_gone})
        return
    output.tell(f"deleted {found.exec_id}")
    if not is_gone:
        from kitaru.client.upkeep import STILL_READ

        output.tell(STILL_READ)


def _show(command: str, execution: Execution, form: Output) -> None:
    if form is Output.JSON:
        output.print_item(command, output.plain(execution))
    else:
        render.execution_text(execution)


COMMANDS = {"get": get, "list": list_, "latest": latest, "events": events, "watch": watch, "tag": tag, "delete": delete}
"""The commands by name."""
