"""`client.export`: checks what is asked for, and leaves the rest to analytics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import datetime

from kitaru.analytics.export.run import export as run
from kitaru.analytics.export.run import make_wanted
from kitaru.client.access import Access
from kitaru.client.models import ExportedTable, ExportReport
from kitaru.domain.errors import KitaruNotFoundError, KitaruUsageError
from kitaru.projections.listing.filters import make_filters


def export(
    access: Access,
    folder: str,
    tables: str | Iterable[str] | None,
    since: datetime | str | None,
    until: datetime | str | None,
    partition_by: str | Iterable[str],
    progress: Callable[[int, int], None] | None,
) -> ExportReport:
    """Export a store into a folder. See KitaruClient.export."""
    if not _is_unicode(folder):
        raise KitaruUsageError(f"the folder {folder!r} is no Unicode text, as the names of Parquet files are; name another")
    filters = make_filters(access.project, time.time_ns() // 1000, since=since, until=until)
    wanted = make_wanted(access.project, tables, partition_by, filters.since, filters.until)
    reader = access.find_reader()
    if reader is None:
        choice = access.choice
        raise KitaruNotFoundError(f"there is no store in {choice.location} ({choice.why}); run a flow, and it is made")
    written = run(reader, folder, wanted, progress)
    return ExportReport(folder=folder, tables=[ExportedTable(**each._asdict()) for each in written])


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
