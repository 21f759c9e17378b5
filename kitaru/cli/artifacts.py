"""`kitaru artifacts …`."""

from __future__ import annotations

from typing import Annotated

import typer

from kitaru.cli import output, render
from kitaru.cli.options import ExecutionId, Format, ListFormat, Project, Store, client_for
from kitaru.cli.output import ListOutput, Output

_CSV = (
    "artifact_id",
    "name",
    "kind",
    "save_type",
    "direction",
    "producing_call",
    "size",
    "media_type",
    "created_at",
    "tags",
)

HELP = "See the values that executions recorded."


def list_(
    execution: ExecutionId,
    kind: Annotated[str | None, typer.Option("--kind", help="prompt, response, context, input, output or blob.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="Only with this name.")] = None,
    call: Annotated[
        str | None, typer.Option("--call", help="Only from this checkpoint call: its id or invocation id.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", help="The most to show.")] = None,
    store: Store = None,
    project: Project = None,
    form: ListFormat = ListOutput.TEXT,
) -> None:
    """List the values that an execution recorded, oldest first."""
    found = client_for(store, project).artifacts.list(execution, kind=kind, name=name, producing_call=call, limit=limit)
    if form is ListOutput.TEXT:
        if found:
            render.artifact_table(found)
        else:
            output.tell("no artifacts match")
        return
    items = [output.plain(artifact) for artifact in found]
    if form is ListOutput.JSON:
        output.print_items("artifacts.list", items)
    elif form is ListOutput.JSONL:
        output.print_lines(items)
    else:
        output.print_csv(_CSV, items)


def get(
    artifact: Annotated[str, typer.Argument(metavar="ARTIFACT", help="An artifact's id, as `artifacts list` shows it.")],
    store: Store = None,
    project: Project = None,
    form: Format = Output.TEXT,
) -> None:
    """Show one recorded value, as plain JSON."""
    client = client_for(store, project)
    found = client.artifacts.get(artifact)
    value = client.artifacts.show(found.artifact_id)
    if form is Output.JSON:
        output.print_item("artifacts.get", output.plain(found), value=value)
        return
    output.print_fields(
        (
            ("Artifact", found.artifact_id),
            ("Name", found.name),
            ("Kind", found.kind),
            ("Saved", found.save_type),
            ("Call", found.producing_call),
            ("Bytes", found.size),
            ("Tags", " ".join(found.tags) or None),
        )
    )
    print()
    print(output.clean(value, keep_lines=True) if isinstance(value, str) else output.dumped(value, indent=2))


COMMANDS = {"list": list_, "get": get}
"""The commands by name."""
