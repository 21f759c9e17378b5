"""`kitaru executions resume`, `retry`, `replay` and `cancel`: one execution, or all that match."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from kitaru.cli import follow, foreground, output
from kitaru.cli.options import (
    Detach,
    DryRun,
    ExecutionId,
    Flow,
    Format,
    Project,
    Since,
    SomeExecution,
    Status,
    Store,
    Tags,
    Target,
    Where,
    Yes,
    client_for,
)
from kitaru.cli.output import Output
from kitaru.cli.typed import conditions, read_object
from kitaru.domain.errors import KitaruUsageError

if TYPE_CHECKING:
    from kitaru.client.client import KitaruClient
    from kitaru.client.models import BulkItem
    from kitaru.projections.listing import Selection
    from kitaru.runtime.runner import Runner
    from kitaru.settings import StoreChoice

    Begin = Callable[[StoreChoice, str, str | None, bool], Runner | None]


def resume(
    execution: SomeExecution = None,
    detach: Detach = False,
    target: Target = None,
    flow: Flow = None,
    status: Status = None,
    tag: Tags = None,
    since: Since = None,
    where: Where = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    store: Store = None,
    project: Project = None,
    form: Format = Output.TEXT,
) -> int:
    """Go on with an execution that nobody runs, and wait for its end; or with all that match."""
    from kitaru import compose

    def begin(choice: StoreChoice, exec_id: str, target: str | None, detach: bool) -> Runner | None:
        return compose.resume(choice, exec_id, target, detach=detach)

    client = client_for(store, project)
    filters = _selection(flow, status, tag, since, where)
    if execution is not None:
        _check_single(filters, dry_run=dry_run)
        return _one("resume", client, execution, begin, target, detach=detach, form=form)
    asked = _Bulk("resume", form, dry_run, yes)
    return _many(asked, client, filters, lambda dry: client.executions.resume_all(dry_run=dry, detach=detach, **filters))


def retry(
    execution: SomeExecution = None,
    detach: Detach = False,
    target: Target = None,
    flow: Flow = None,
    status: Status = None,
    tag: Tags = None,
    since: Since = None,
    where: Where = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    store: Store = None,
    project: Project = None,
    form: Format = Output.TEXT,
) -> int:
    """Run a failed execution on, completed checkpoints reused, and wait for its end; or all that match."""
    from kitaru import compose

    def begin(choice: StoreChoice, exec_id: str, target: str | None, detach: bool) -> Runner | None:
        return compose.retry(choice, exec_id, target, detach=detach)

    client = client_for(store, project)
    filters = _selection(flow, status, tag, since, where)
    if execution is not None:
        _check_single(filters, dry_run=dry_run)
        return _one("retry", client, execution, begin, target, detach=detach, form=form)
    asked = _Bulk("retry", form, dry_run, yes)
    return _many(asked, client, filters, lambda dry: client.executions.retry_all(dry_run=dry, detach=detach, **filters))


def replay(
    execution: ExecutionId,
    from_: Annotated[str, typer.Option("--from", help="Run anew from this checkpoint: its name, invocation id or call id.")],
    args: Annotated[str | None, typer.Option("--args", help="Flow inputs to replace: a JSON object, or @FILE.")] = None,
    overrides: Annotated[
        str | None, typer.Option("--overrides", help='Results to replace: {"checkpoint.NAME": VALUE}, or @FILE.')
    ] = None,
    detach: Detach = False,
    target: Target = None,
    store: Store = None,
    project: Project = None,
    form: Format = Output.TEXT,
) -> int:
    """Start a new execution from an old one's history, and wait for its end."""
    from kitaru import compose
    from kitaru.cli.line import Line

    inputs, stand_ins = read_object(args, "--args"), read_object(overrides, "--overrides")
    client = _here(client_for(store, project))
    full = client.executions.peek(execution).exec_id
    with Line(f"replaying {full}: ") as line:
        handle = compose.replay(client.store, full, from_, stand_ins, inputs, target, detach=detach)
        if detach:
            return foreground.detached("executions.replay", client, handle.exec_id, form)
        line.tell(handle.exec_id)
        return foreground.finish("executions.replay", handle, client, form, line)


def cancel(
    execution: SomeExecution = None,
    flow: Flow = None,
    status: Status = None,
    tag: Tags = None,
    since: Since = None,
    where: Where = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    store: Store = None,
    project: Project = None,
    form: Format = Output.TEXT,
) -> int:
    """Cancel an execution, at its next boundary when it runs; or all that match."""
    client = client_for(store, project)
    filters = _selection(flow, status, tag, since, where)
    if execution is None:
        asked = _Bulk("cancel", form, dry_run, yes)
        return _many(asked, client, filters, lambda dry: client.executions.cancel_all(dry_run=dry, **filters))
    _check_single(filters, dry_run=dry_run)
    found = client.executions.get(client.executions.cancel(execution).exec_id)
    if form is Output.JSON:
        output.print_item("executions.cancel", output.plain(found))
    else:
        output.tell(f"{found.exec_id}: {found.status_reason or found.status.value}")
    return 0


def _selection(
    flow: str | None, status: list[str] | None, tag: list[str] | None, since: str | None, where: list[str] | None
) -> Selection:
    found: Selection = {"flow": flow, "status": status, "tags": tag, "since": since, "where": conditions(where or [])}
    return found


def _check_single(filters: Selection, *, dry_run: bool) -> None:
    if dry_run or any(filters.values()):
        raise KitaruUsageError("name one execution, or filters with --dry-run and --yes, not both")


def _here(client: KitaruClient) -> KitaruClient:
    """The client, with its store and project as those of what runs in this process."""
    from kitaru.settings import configure

    configure(store=client.store.location, project=client.project)
    return client


def _one(
    verb: str, client: KitaruClient, execution: str, begin: Begin, target: str | None, *, detach: bool, form: Output
) -> int:
    from kitaru import compose
    from kitaru.cli.line import Line

    full = _here(client).executions.peek(execution).exec_id
    with Line("going on with ", full) as line:
        runner = begin(client.store, full, target, detach)
        if detach:
            return foreground.detached(f"executions.{verb}", client, full, form)
        line.tell(full)
        handle = compose.handle_on(client.store, full, runner, target)
        return foreground.finish(f"executions.{verb}", handle, client, form, line)


class _Bulk(NamedTuple):
    """A bulk command as it was typed."""

    verb: str
    form: Output
    dry_run: bool
    yes: bool


def _many(asked: _Bulk, client: KitaruClient, filters: Selection, act: Callable[[bool], list[BulkItem]]) -> int:
    if not any(filters.values()):
        raise KitaruUsageError(f"{asked.verb} what? Name an execution, or filters such as --flow, --status, --tag")
    matching = act(True)
    if asked.dry_run or not matching:
        return _shown(asked, matching)
    count = f"{len(matching)} execution{'s' * (len(matching) != 1)}"
    if not asked.yes:
        if not sys.stdin.isatty() or asked.form is Output.JSON:
            raise KitaruUsageError(f"{asked.verb} {count}: look with --dry-run, then say so with --yes")
        if not typer.confirm(f"{asked.verb} {count}?", err=True):
            raise typer.Abort
    _here(client)
    items = act(False)
    if asked.verb == "cancel":
        return _shown(asked, items)
    from kitaru.runtime import process

    process.join_all()
    ends = [client.executions.peek(item.execution.exec_id) for item in items]
    return _shown(asked, [item.model_copy(update={"execution": end}) for item, end in zip(items, ends, strict=True)])


def _shown(asked: _Bulk, items: list[BulkItem]) -> int:
    """Print what was done; the exit code: of the first refusal, else of the worst end."""
    if asked.form is Output.JSON:
        output.print_items(f"executions.{asked.verb}", [output.plain(item) for item in items])
    elif items:
        rows = [
            (
                item.execution.exec_id,
                item.execution.flow_name,
                item.execution.status.value,
                item.outcome,
                item.error.message if item.error is not None else item.execution.status_reason or "",
            )
            for item in items
        ]
        output.print_table(("Execution", "Flow", "Status", "Outcome", "Note"), rows, below="Note")
    else:
        output.tell("no executions match")
    return _code(asked, items)


def _code(asked: _Bulk, items: list[BulkItem]) -> int:
    refused = next((item.error for item in items if item.error is not None), None)
    if refused is not None:
        from kitaru.cli.app import code_of_kind

        return code_of_kind(refused.type)
    if asked.dry_run or asked.verb == "cancel":
        return 0
    codes = {follow.code_of(item.execution.status) for item in items}
    return follow.FAILED if follow.FAILED in codes else follow.WAITING if follow.WAITING in codes else follow.COMPLETED


COMMANDS = {"resume": resume, "retry": retry, "replay": replay, "cancel": cancel}
"""The commands by name."""
