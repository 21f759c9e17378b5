"""`kitaru executions waits` and `input`: what executions wait for, and the answers."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from kitaru.cli import output, render
from kitaru.cli.options import Format, ListFormat, Project, SomeExecution, Store, client_for
from kitaru.cli.output import ListOutput, Output
from kitaru.cli.typed import read_text
from kitaru.domain.choices import chosen, described, is_plain
from kitaru.domain.errors import KitaruStateError, KitaruUsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kitaru.client.client import KitaruClient
    from kitaru.client.models import Execution, PendingWait

_CSV = ("exec_id", "wait_id", "name", "question", "schema", "metadata", "entered_waiting_at", "expires_at")


def waits(
    execution: SomeExecution = None,
    store: Store = None,
    project: Project = None,
    form: ListFormat = ListOutput.TEXT,
) -> None:
    """List what waits for input: in one execution, or in all of them."""
    found = client_for(store, project).executions.pending_waits(execution)
    items = [output.plain(wait) for wait in found]
    if form is ListOutput.JSON:
        output.print_items("executions.waits", items)
    elif form is ListOutput.JSONL:
        output.print_lines(items)
    elif form is ListOutput.CSV:
        output.print_csv(_CSV, items)
    elif found:
        render.wait_table(found)
    else:
        output.tell("nothing waits for input")


def input_(
    execution: SomeExecution = None,
    wait: Annotated[
        str | None, typer.Option("--wait", "-w", help="The wait's name or id; the only pending one needs none.")
    ] = None,
    value: Annotated[
        str | None, typer.Option("--value", help="The answer: JSON, else text; @FILE or @- for what a file or stdin holds.")
    ] = None,
    abort: Annotated[bool, typer.Option("--abort", help="Give the wait up: the execution is cancelled.")] = False,
    interactive: Annotated[
        bool, typer.Option("--interactive", help="Ask here, for one execution or for all that wait.")
    ] = False,
    by: Annotated[str | None, typer.Option("--by", help="Who answers; else you.")] = None,
    store: Store = None,
    project: Project = None,
    form: Format = Output.TEXT,
) -> int:
    """Answer a wait, or give it up."""
    if (value is not None) + abort + interactive > 1:
        raise KitaruUsageError("--value, --abort and --interactive exclude each other; name one")
    client = client_for(store, project)
    if interactive or (value is None and not abort and execution is not None and sys.stdin.isatty()):
        return _sweep(client, execution, wait, by, form)
    if execution is None:
        raise KitaruUsageError("name an execution (kitaru executions waits lists them), or answer all with --interactive")
    if value is None and not abort:
        raise KitaruUsageError("name the answer with --value JSON, or give the wait up with --abort")
    text = None if value is None else read_text(value, "--value")
    asked = _asked(client, execution, wait)
    _close(client, asked, wait, text, by)
    found = client.executions.get(asked.exec_id)
    if form is Output.JSON:
        output.print_item("executions.input", output.plain(found))
    else:
        output.tell(_told(found, wait or asked.pending_waits[0].name, text))
    return 0


def _asked(client: KitaruClient, execution: str, wait: str | None) -> Execution:
    """The execution, as far as it is clear which of its waits is meant. Raises KitaruStateError."""
    found = client.executions.peek(execution)
    if wait is None and len(found.pending_waits) != 1:
        if not found.pending_waits:
            raise KitaruStateError(f"the execution {found.exec_id} waits for no input; it is {found.status.value}")
        names = ", ".join(repr(each.name) for each in found.pending_waits)
        raise KitaruStateError(f"several waits are pending; name one with --wait: {names}", code="ambiguous-wait")
    return found


def _close(client: KitaruClient, asked: Execution, wait: str | None, text: str | None, by: str | None) -> None:
    from kitaru import compose

    named = wait if wait is not None else asked.pending_waits[0].name
    if text is None:
        client.executions.abort_wait(asked.exec_id, wait=named)
    else:
        compose.answer_text(client.store, asked.exec_id, named, text, by)


def _told(found: Execution, wait: str, text: str | None) -> str:
    if text is None:
        return f"gave up {wait}: {found.exec_id} is {found.status_reason or found.status.value}"
    if found.status.is_finished or found.runner == "alive":
        return f"answered {wait} of {found.exec_id}"
    if found.pending_waits:
        names = ", ".join(each.name for each in found.pending_waits)
        return f"answered {wait} of {found.exec_id}, which still waits for {names}: kitaru executions input {found.exec_id}"
    return (
        f"answered {wait} of {found.exec_id}; go on with: kitaru executions resume {found.exec_id} (or leave it to a worker)"
    )


def _sweep(client: KitaruClient, execution: str | None, wait: str | None, by: str | None, form: Output) -> int:
    """Ask for every pending wait, or the one that is named; empty lines skip."""
    from kitaru.client.shown import has_passed

    pending = client.executions.pending_waits(execution)
    named = [each for each in pending if wait is None or wait in (each.name, each.wait_id)]
    if wait is not None and not named:
        names = ", ".join(repr(each.name) for each in pending) or "none"
        raise KitaruStateError(f"no wait {wait!r} is pending here; pending: {names}")
    asked = [each for each in named if not has_passed(each.expires_at)]
    for each in named:
        if each not in asked:
            output.tell(
                f"{each.name} of {each.exec_id} has expired, so it is not asked for; go on with: "
                f"kitaru executions resume {each.exec_id} (or leave it to a worker)"
            )
    if not named:
        output.tell("nothing waits for input")
    answered = _ask_all(client, asked, by)
    if form is Output.JSON:
        output.print_items("executions.input", [output.plain(client.executions.get(each)) for each in answered])
    elif asked:
        output.tell(f"answered {len(answered)} of {len(asked)}")
    return 0


def _ask_all(client: KitaruClient, waits: Sequence[PendingWait], by: str | None) -> list[str]:
    from kitaru import compose

    answered: list[str] = []
    for each in waits:
        output.tell(f"\n{each.exec_id}   {each.name}\n  {each.question or 'waits for input'}")
        if not is_plain(each.schema_):
            output.tell(f"  schema: {output.dumped(each.schema_)}")
        output.tell(f"  answer with {described(each.schema_)}")
        while True:
            print("answer (empty skips)> ", end="", file=sys.stderr, flush=True)
            line = sys.stdin.readline()
            if not line:
                return answered
            if not line.strip():
                break
            try:
                text = chosen(each.schema_, line.rstrip("\n"))
                compose.answer_text(client.store, each.exec_id, each.name, text, by)
            except KitaruUsageError as refused:
                output.tell(refused.message)
            except KitaruStateError as refused:
                output.tell(refused.message)
                break
            else:
                answered.append(each.exec_id)
                output.tell(_told(client.executions.peek(each.exec_id), each.name, text))
                break
    return answered


COMMANDS = {"waits": waits, "input": input_}
"""The commands by name."""
