"""`kitaru run` and `kitaru recover`: flows in the foreground of this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from kitaru.cli import completing, follow, foreground, output, render
from kitaru.cli.options import Detach, Format, Project, Store, absence, client_for
from kitaru.cli.output import Output
from kitaru.cli.typed import read_object
from kitaru.domain.errors import KitaruError, KitaruUsageError

if TYPE_CHECKING:
    from kitaru.client.models import Execution
    from kitaru.runtime.runner import Runner


def run(
    target: Annotated[str, typer.Argument(metavar="TARGET", help="FILE.py:flow or module:flow.")],
    given: Annotated[
        str | None, typer.Option("--input", "-i", help="The flow's inputs: a JSON object, or @FILE with one.")
    ] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="A tag for this execution.")] = None,
    stack: Annotated[
        str | None, typer.Option("--stack", help="Where it runs: local or worker.", autocompletion=completing.stacks)
    ] = None,
    detach: Detach = False,
    store: Store = None,
    project: Project = None,
    form: Format = Output.TEXT,
) -> int:
    """Run a flow and wait for its end: exit code 0 completed, 1 failed or cancelled, 6 left waiting."""
    from kitaru.cli.line import Line
    from kitaru.runtime.code import load_flow
    from kitaru.settings import configure

    inputs = read_object(given, "--input")
    if detach and stack not in (None, "worker"):
        raise KitaruUsageError(f"--detach leaves the execution to a worker, so --stack cannot be {stack!r}")
    client = client_for(store, project)
    configure(store=client.store.location, project=client.project)
    if detach or stack is not None:
        from kitaru.stacks import checked_stack

        inputs["stack"] = checked_stack("worker" if detach else stack)
    flow = load_flow(target)
    called = flow.options(tags=tag) if tag else flow
    if detach:
        return foreground.detached("run", client, called.run(**inputs).exec_id, form)
    with Line(f"running {flow.name}: ") as line:
        handle = called.run(**inputs)
        line.tell(handle.exec_id)
        return foreground.finish("run", handle, client, form, line)


def recover(
    execution: Annotated[
        str | None, typer.Argument(metavar="EXECUTION", help="Only this one: its id, or the beginning of it.")
    ] = None,
    target: Annotated[str | None, typer.Option("--target", help="FILE.py:flow: where the code is now.")] = None,
    store: Store = None,
    project: Project = None,
    form: Format = Output.TEXT,
) -> int:
    """Go on with executions whose runner is gone, 32 at once, and wait for their end.

    What is queued for workers is left to them; named by its id it runs here.
    """
    from kitaru import compose
    from kitaru.cli.line import Line
    from kitaru.settings import configure

    client = client_for(store, project)
    configure(store=client.store.location, project=client.project)
    runners: list[Runner] = []
    recovered: list[str] = []
    refused: list[KitaruError] = []
    for found in client.executions.find_lost(execution):
        foreground.wait_for_place(runners)
        try:
            with Line("recovering ", found) as line:
                runners += compose.recover(client.store, [found], target)
                line.tell(found)
            recovered.append(found)
        except KitaruError as error:
            if execution is not None:
                raise
            refused.append(error)
            output.tell(f"{found} was not recovered: {error.message}")
    foreground.wait_for_place(runners, 1)
    ended = [client.executions.get(found) for found in recovered]
    if form is Output.JSON:
        output.print_items("recover", [output.plain(found) for found in ended])
    elif ended:
        render.execution_table(ended)
    elif not refused:
        output.tell(absence(client) or "nothing to recover")
    return _code(ended, refused)


def _code(ended: list[Execution], refused: list[KitaruError]) -> int:
    from kitaru.cli.app import code_of

    codes = [follow.code_of(found.status) for found in ended]
    if refused:
        return code_of(refused[0])
    return follow.FAILED if follow.FAILED in codes else follow.WAITING if follow.WAITING in codes else follow.COMPLETED


COMMANDS = {"run": run, "recover": recover}
"""The commands by name."""
