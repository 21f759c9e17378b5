"""`kitaru store …`."""

from __future__ import annotations

import os
import time
from typing import Annotated

import typer

from kitaru import compose
from kitaru.cli import output
from kitaru.cli.options import Format, Store
from kitaru.cli.output import Output
from kitaru.cli.progress import progress_bar
from kitaru.domain.errors import KitaruNotFoundError
from kitaru.settings import StoreChoice, resolve_store

HELP = "Look after the store."


def info(store: Store = None, form: Format = Output.TEXT) -> None:
    """Show where the store is and how large it is."""
    choice = _existing(store)
    counted = compose.measure_store(choice)
    if form is Output.JSON:
        output.print_item("store.info", {"location": choice.location, "why": choice.why, **counted})
        return
    titles = {"store_id": "Store id", "executions": "Executions", "events": "Events", "bytes": "Bytes"}
    output.print_fields(
        (
            ("Store", choice.location),
            ("Why", choice.why),
            *((title, counted.get(name)) for name, title in titles.items()),
        )
    )


def verify(store: Store = None, form: Format = Output.TEXT) -> int:
    """Check every event, value and row; exit code 1 when something is not as it was written."""
    choice = _existing(store)
    with progress_bar("verify") as progress:
        report = compose.verify_store(choice, progress)
    problems = [{"kind": found.kind, "where": found.where, "message": found.message} for found in report.problems]
    if form is Output.JSON:
        counted = {"events": report.events, "executions": report.executions, "blobs": report.blobs}
        output.print_item("store.verify", {"whole": report.is_whole, **counted, "problems": problems})
        return 0 if report.is_whole else 1
    for found in report.problems:
        print(output.clean(f"{found.kind}   {found.where}   {found.message}"))
    events, executions = output.count(report.events, "event"), output.count(report.executions, "execution")
    counted = f"{events} of {executions}, {output.count(report.blobs, 'large value')}"
    output.tell(f"whole: {counted}" if report.is_whole else f"{output.count(len(problems), 'problem')} in {counted}")
    return 0 if report.is_whole else 1


def rebuild(store: Store = None, form: Format = Output.TEXT) -> None:
    """Make the read models again from the events."""
    choice = _existing(store)
    started = time.monotonic()
    with progress_bar("rebuild") as progress:
        events = compose.rebuild_store(choice, progress)
    seconds = time.monotonic() - started
    if form is Output.JSON:
        output.print_item("store.rebuild", {"events": events, "seconds": round(seconds, 3)})
    else:
        output.tell(f"rebuilt from {output.count(events, 'event')} in {seconds:.2f} s")


def backup(
    target: Annotated[str, typer.Argument(metavar="FOLDER", help="A new folder for the copy.")],
    store: Store = None,
    form: Format = Output.TEXT,
) -> None:
    """Copy the store, as it is now, into a new folder. Flows may go on meanwhile."""
    choice = _existing(store)
    with progress_bar("backup") as progress:
        compose.backup_store(choice, target, progress)
    copied = os.path.abspath(target)
    if form is Output.JSON:
        output.print_item("store.backup", {"location": copied})
    else:
        output.tell(f"copied to {copied}; look into it with: kitaru executions list --store {copied}")


def _existing(store: str | None) -> StoreChoice:
    choice = resolve_store(store)
    if not compose.store_exists(choice):
        raise KitaruNotFoundError(f"there is no store in {choice.location} ({choice.why}); run a flow, and it is made")
    return choice


COMMANDS = {"info": info, "verify": verify, "rebuild": rebuild, "backup": backup}
"""The commands by name."""
