"""Options that several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from kitaru.cli import completing
from kitaru.cli.output import ListOutput, Output

if TYPE_CHECKING:
    from kitaru.client.client import KitaruClient

Store = Annotated[str | None, typer.Option("--store", help="The store's folder. `kitaru status` says which one is used.")]
Project = Annotated[str | None, typer.Option("--project", help="A project inside the store.")]
Format = Annotated[Output, typer.Option("--output", "-o", help="How to print.")]
ListFormat = Annotated[ListOutput, typer.Option("--output", "-o", help="How to print.")]
ExecutionId = Annotated[
    str,
    typer.Argument(
        metavar="EXECUTION", help="An execution's id, or the beginning of one.", autocompletion=completing.executions
    ),
]
Flow = Annotated[str | None, typer.Option("--flow", help="Only this flow: name or id.", autocompletion=completing.flows)]
Status = Annotated[
    list[str] | None,
    typer.Option(
        "--status",
        help="Only this status: running, waiting, completed, failed, cancelled.",
        autocompletion=completing.statuses,
    ),
]
Stack = Annotated[str | None, typer.Option("--stack", help="Only this stack: name or id.", autocompletion=completing.stacks)]

Tags = Annotated[
    list[str] | None,
    typer.Option("--tag", help="Only with this tag; several have to match together.", autocompletion=completing.tags),
]
Since = Annotated[str | None, typer.Option("--since", help="Started from then on: ISO time (UTC), or an age like 7d, 12h.")]
Until = Annotated[str | None, typer.Option("--until", help="Started before: ISO time (UTC), or an age like 7d, 12h.")]
Where = Annotated[
    list[str] | None, typer.Option("--where", help="Metadata: 'KEY OP VALUE' with = != > >= < <=; VALUE as JSON, else text.")
]
SomeExecution = Annotated[
    str | None,
    typer.Argument(
        metavar="[EXECUTION]",
        help="An execution's id, or the beginning of one; else name filters.",
        autocompletion=completing.executions,
    ),
]
Detach = Annotated[bool, typer.Option("--detach", help="Leave it to a worker, and do not wait.")]
Target = Annotated[str | None, typer.Option("--target", help="FILE.py:flow: where the code is now.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show which executions it would be.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def absence(client: KitaruClient) -> str | None:
    """What to say of a store that nothing was ever written to; None when it is there."""
    from kitaru import compose

    if compose.store_exists(client.store):
        return None
    return f"there is no store in {client.store.location} yet ({client.store.why}); the first run makes it"


def client_for(store: str | None, project: str | None = None) -> KitaruClient:
    """The client of a command."""
    from kitaru.client.client import KitaruClient

    return KitaruClient(store, project=project)
