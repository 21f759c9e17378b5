"""`kitaru export`: the store as Parquet files."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from kitaru.cli import output
from kitaru.cli.options import Format, Project, Since, Store, Until, client_for
from kitaru.cli.output import Output
from kitaru.cli.progress import progress_bar


def export(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="A new folder, or one that was exported to before.")],
    table: Annotated[
        list[str] | None,
        typer.Option(
            "--table",
            help="Only this table: executions, checkpoints, attempts, waits, llm_usage, events. May be repeated; else all.",
        ),
    ] = None,
    since: Since = None,
    until: Until = None,
    partition_by: Annotated[
        str | None, typer.Option("--partition-by", help="Folders by month, by status, or by both: month,status.")
    ] = None,
    store: Store = None,
    project: Project = None,
    form: Format = Output.TEXT,
) -> None:
    """Write the store as Parquet files, a folder for each table; later exports write only what is new or changed."""
    partitions = [name.strip() for name in partition_by.split(",")] if partition_by else []
    with progress_bar("export") as progress:
        done = client_for(store, project).export(
            folder, tables=table, since=since, until=until, partition_by=partitions, progress=progress
        )
    if form is Output.JSON:
        output.print_item("export", output.plain(done))
        return
    rows = [[each.table, str(each.rows), str(each.files), str(each.new_files), str(each.size)] for each in done.tables]
    output.print_table(("Table", "Rows", "Files", "New files", "Bytes"), rows)
    output.tell(f"exported to {os.path.abspath(folder)}")


COMMANDS = {"export": export}
"""The commands by name."""
