"""`kitaru store …`."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import asdict
from typing import Annotated

import typer

from kitaru import compose
from kitaru.cli import output
from kitaru.cli.options import Format, Store, Yes
from kitaru.cli.output import Output
from kitaru.cli.progress import progress_bar
from kitaru.domain.errors import KitaruNotFoundError, KitaruUsageError
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


def gc(
    older_than: Annotated[
        str | None, typer.Option("--older-than", help="Drop events and values of executions that ended so long ago: 90d.")
    ] = None,
    log_days: Annotated[float, typer.Option("--log-days", min=0, help="Drop log lines older than that.")] = 30.0,
    log_megabytes: Annotated[float, typer.Option("--log-megabytes", min=0, help="Keep so much of the logs.")] = 256.0,
    vacuum: Annotated[bool, typer.Option("--vacuum", help="Give empty pages back to the disk; writers wait.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what it would be.")] = False,
    yes: Yes = False,
    store: Store = None,
    form: Format = Output.TEXT,
) -> None:
    """Take away what nobody needs: old logs, leftovers, and with --older-than old events and values; counts stay."""
    from kitaru.client.upkeep import STILL_READ, Kept, collect
    from kitaru.projections.listing.filters import moment_of

    choice = _existing(store)
    since = None if older_than is None else moment_of("--older-than", older_than, time.time_ns() // 1000)
    if since is not None and not dry_run and not yes:
        if not sys.stdin.isatty() or form is Output.JSON:
            raise KitaruUsageError("dropping events cannot be undone; say so with --yes, or look first with --dry-run")
        if not typer.confirm(
            f"Drop the events and values of executions that ended before {older_than}, for ever?", err=True
        ):
            raise typer.Abort
    with progress_bar("gc") as progress:
        freed = collect(choice, Kept(since, log_days, log_megabytes), progress, vacuum=vacuum, dry_run=dry_run)
    if form is Output.JSON:
        output.print_item("store.gc", {**asdict(freed), "dry_run": dry_run})
        return
    what = (
        f"the events of {output.count(freed.executions, 'execution')}",
        output.count(freed.log_lines, "log line"),
        output.count(freed.values, "unused value"),
        output.count(freed.files, "leftover file"),
    )
    sizes = "" if dry_run else f"; {freed.bytes_before:,} bytes before, {freed.bytes_after:,} after"
    output.tell(f"{'would drop' if dry_run else 'dropped'} {', '.join(what)}{sizes}")
    if freed.in_wal:
        output.tell(STILL_READ)


def _existing(store: str | None) -> StoreChoice:
    choice = resolve_store(store)
    if not compose.store_exists(choice):
        raise KitaruNotFoundError(f"there is no store in {choice.location} ({choice.why}); run a flow, and it is made")
    return choice


COMMANDS = {"info": info, "verify": verify, "rebuild": rebuild, "backup": backup, "gc": gc}
"""The commands by name."""
