"""Options that several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from kitaru.cli.output import ListOutput, Output

if TYPE_CHECKING:
    from kitaru.client.client import KitaruClient

Store = Annotated[str | None, typer.Option("--store", help="The store's folder. `kitaru status` says which one is used.")]
Project = Annotated[str | None, typer.Option("--project", help="A project inside the store.")]
Format = Annotated[Output, typer.Option("--output", "-o", help="How to print.")]
ListFormat = Annotated[ListOutput, typer.Option("--output", "-o", help="How to print.")]
ExecutionId = Annotated[str, typer.Argument(metavar="EXECUTION", help="An execution's id, or the beginning of one.")]
Flow = Annotated[str | None, typer.Option("--flow", help="Only this flow: name or id.")]
Status = Annotated[
    list[str] | None, typer.Option("--status", help="Only this status: running, waiting, completed, failed, cancelled.")
]
Stack = Annotated[str | None, typer.Option("--stack", help="Only this stack: name or id.")]


def client_for(store: str | None, project: str | None = None) -> KitaruClient:
    """The client of a command."""
    from kitaru.client.client import KitaruClient

    return KitaruClient(store, project=project)
