"""`kitaru stack …`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from kitaru import stacks
from kitaru.cli import completing, output
from kitaru.cli.options import Format
from kitaru.cli.output import Output

Name = Annotated[str, typer.Argument(metavar="STACK", help="local or worker.", autocompletion=completing.stacks)]

HELP = "See and choose where flows run."


def list_(form: Format = Output.TEXT) -> None:
    """List the stacks."""
    found = stacks.list_stacks()
    if form is Output.JSON:
        output.print_items("stack.list", [asdict(stack) for stack in found])
        return
    rows = [(stack.name, "active" if stack.is_active else "", stack.description) for stack in found]
    output.print_table(("Stack", "Active", "Where flows run"), rows)


def current(form: Format = Output.TEXT) -> None:
    """Show the stack of runs that name none, and why it is this one."""
    _show("stack.current", stacks.current_stack(), form)


def show(name: Name, form: Format = Output.TEXT) -> None:
    """Show one stack."""
    _show("stack.show", stacks.get_stack(name), form)


def use(name: Name, form: Format = Output.TEXT) -> None:
    """Keep a stack as yours, in your configuration folder; kitaru.configure and KITARU_STACK outrank it."""
    active = stacks.use_stack(name)
    if form is Output.JSON:
        output.print_item("stack.use", asdict(active))
    elif active.name == name:
        output.tell(f"flows run on {name} now: {active.description}")
    if active.name != name:
        output.tell(f"{name} is kept, but {active.name} is {stacks.resolve_stack().why}")


def _show(command: str, stack: stacks.Stack, form: Output) -> None:
    if form is Output.JSON:
        output.print_item(command, {**asdict(stack), "why": stacks.resolve_stack().why if stack.is_active else None})
        return
    why = stacks.resolve_stack().why if stack.is_active else None
    output.print_fields((("Stack", stack.name), ("Where flows run", stack.description), ("Active", why)))


COMMANDS = {"list": list_, "current": current, "show": show, "use": use}
"""The commands by name."""
