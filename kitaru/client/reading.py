"""Reading executions: get, list, latest, events, pending waits."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Literal, overload

from kitaru.client.access import Access
from kitaru.client.snapshots import from_row, wait_from_row
from kitaru.domain.errors import KitaruBackendError, KitaruError, KitaruNotFoundError, KitaruUsageError
from kitaru.domain.ids import wait_id
from kitaru.projections.listing import (
    ExecutionRow,
    Filters,
    find_numbers,
    find_row,
    make_filters,
    read_inbox,
    read_rows,
    read_waits,
)

if TYPE_CHECKING:
    from kitaru.analytics.grammar import Asked, GroupBy, MetricSpec
    from kitaru.client.client import KitaruClient
    from kitaru.client.logs import LogTail
    from kitaru.client.models import Execution, ExecutionEvent, LogEntry, PendingWait
    from kitaru.client.statistics import ExecutionStatistics
    from kitaru.projections.listing import Selection, WaitRow
    from kitaru.store.read import Reader

_ROWS = 256
"""Rows of a list that are fetched at once."""

_DAMAGE = (ValueError, TypeError, LookupError, OverflowError, AttributeError, KitaruBackendError)
"""What a row that is not as it was written leads to, beside errors with one of these codes."""
_DAMAGE_CODES = ("payload-undecodable", "store-corrupt")

logger = logging.getLogger("kitaru")

Moment = datetime | str
Status = str | Iterable[str]


class Reading:
    """What `client.executions` reads."""

    def __init__(self, client: KitaruClient, access: Access) -> None:
        self._client = client
        self._access = access

    def get(self, exec_id: str, at: int | None = None) -> Execution:
        """One execution in full; with `at`, as it was after that many events. Raises KitaruNotFoundError."""
        from kitaru.client.history import read_execution

        return read_execution(self._client, self._access, self._access.resolve(exec_id), at)

    def peek(self, exec_id: str) -> Execution:
        """One execution as a list shows it: without its calls and values. Raises KitaruNotFoundError."""
        full = self._access.resolve(exec_id)
        reader = self._access.reader(f"execution {exec_id!r}")
        row, waits = find_row(reader.query, full), []
        if row is not None and row.open_waits:
            with reader.snapshot() as moment:
                row = find_row(moment.query, full)
                waits = [] if row is None else read_waits(moment.query, (row.number,)).get(row.number, [])
        if row is None:
            reader.head(full)
            raise KitaruBackendError(
                f"the read model has no row of execution {exec_id!r}; run `kitaru store rebuild`", code="store-corrupt"
            )
        return self._execution(row, waits)

    def pending_waits(self, exec_id: str | None = None) -> Sequence[PendingWait]:
        """The waits for input that are open: of one execution, or of all in the project; oldest first."""
        if exec_id is not None:
            return list(self.peek(exec_id).pending_waits)
        reader = self._access.find_reader()
        rows = [] if reader is None else read_inbox(reader.query, self._access.project)
        return [self._in_inbox(found, row) for found, row in rows]

    def list(
        self,
        flow: str | None = None,
        *,
        status: Status | None = None,
        stack: str | None = None,
        tags: str | Iterable[str] | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
        where: Mapping[str, object] | None = None,
        limit: int | None = None,
        page: int | None = None,
        size: int | None = None,
    ) -> list[Execution]:
        """Executions, newest first; all of them, unless `limit` or `page` (from 1, `size` 20) says otherwise.

        flow, stack: name or id. tags: all have to match. since, until: started from, and before; a datetime, ISO text or an
        age like "7d". where: metadata, {"customer_tier": "enterprise"} or {"score": {">=": 3}}. Raises KitaruUsageError.
        """
        first, last = _window(limit, page, size)
        filters = make_filters(
            self._access.project, time.time_ns() // 1000,
            flow=flow, status=status, stack=stack, tags=tags, since=since, until=until, where=where,
        )  # fmt: skip
        with self._access.snapshot() as reader:
            return [] if reader is None else self._listed(reader, filters, first, last)

    def latest(self, flow: str | None = None, *, status: Status | None = None, stack: str | None = None) -> Execution:
        """The newest execution, in full. Raises KitaruNotFoundError, which is a LookupError, when there is none."""
        found = self.list(flow, status=status, stack=stack, limit=1)
        if not found:
            raise self._access.not_found("execution that matches")
        return self.get(found[0].exec_id)

    def statistics(  # noqa: PLR0913  (the surface's)
        self,
        *,
        group_by: GroupBy | Iterable[GroupBy] = (),
        metrics: MetricSpec | Iterable[MetricSpec] = (),
        flow: str | None = None,
        status: Status | None = None,
        stack: str | None = None,
        tags: str | Iterable[str] | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
        where: Mapping[str, object] | None = None,
        timezone: str = "UTC",
        max_groups: int = 1000,
    ) -> ExecutionStatistics:
        """Executions counted by group, with metrics, filtered as in `list`; what is committed now is in it.

        group_by: "status", "flow", "stack", "tag", "time:day", "metadata:<key>". metrics: "<name>:<source>:<aggregation>",
        "<name>:metadata:<key>:<aggregation>". timezone: of the times. Raises KitaruUsageError that names the choices.
        """
        from kitaru.client.statistics import execution_statistics

        selection: Selection = {
            "flow": flow, "status": status, "stack": stack, "tags": tags, "since": since, "until": until, "where": where,
        }  # fmt: skip
        asked: Asked = {"group_by": group_by, "metrics": metrics, "timezone": timezone, "max_groups": max_groups}
        return execution_statistics(self._access, selection, **asked)

    @overload
    def events(self, exec_id: str, follow: Literal[False] = False) -> list[ExecutionEvent]: ...
    @overload
    def events(self, exec_id: str, follow: bool) -> list[ExecutionEvent] | Iterator[ExecutionEvent]: ...
    def events(self, exec_id: str, follow: bool = False) -> list[ExecutionEvent] | Iterator[ExecutionEvent]:
        """An execution's events, oldest first; with `follow` an iterator that waits for more until it is finished."""
        from kitaru.client.history import follow_events, read_events

        full = self._access.resolve(exec_id)
        return follow_events(self._access, full) if follow else list(read_events(self._access, full))

    @overload
    def logs(
        self,
        exec_id: str,
        *,
        checkpoint: str | None = None,
        source: str = "step",
        limit: int | None = None,
        follow: Literal[False] = False,
    ) -> list[LogEntry]: ...
    @overload
    def logs(
        self,
        exec_id: str,
        *,
        checkpoint: str | None = None,
        source: str = "step",
        limit: int | None = None,
        follow: bool,
    ) -> list[LogEntry] | Iterator[LogEntry]: ...
    def logs(
        self,
        exec_id: str,
        *,
        checkpoint: str | None = None,
        source: str = "step",
        limit: int | None = None,
        follow: bool = False,
    ) -> list[LogEntry] | Iterator[LogEntry]:
        """What its checkpoints and its body printed and logged, oldest first; the newest `limit`.

        checkpoint: a name, an invocation id or a call id. source: "step", or "runner" for the runtime's own words. With
        `follow` an iterator that waits for more until it is finished. Raises KitaruLogRetrievalError.
        """
        from kitaru.client import logs

        tail = self.tail_logs(exec_id, checkpoint=checkpoint, source=source, limit=limit)
        return logs.follow(tail, self._access) if follow else tail.read()

    def tail_logs(
        self, exec_id: str, *, checkpoint: str | None = None, source: str = "step", limit: int | None = None
    ) -> LogTail:
        """The same, to be read again and again: each `read()` gives what is new."""
        from kitaru.client.logs import LogTail

        return LogTail(self._access, self._access.resolve(exec_id), checkpoint, source, limit)

    def _listed(self, reader: Reader, filters: Filters, first: int, last: int | None) -> list[Execution]:
        numbers = islice(find_numbers(reader.query, filters), first, last)
        found: list[Execution] = []
        while chunk := list(islice(numbers, _ROWS)):
            rows = read_rows(reader.query, chunk)
            waiting = [row.number for row in rows if row.open_waits]
            waits = read_waits(reader.query, waiting) if waiting else {}
            found += [self._execution(row, waits.get(row.number, [])) for row in rows]
        return found

    def _execution(self, row: ExecutionRow, waits: Sequence[WaitRow]) -> Execution:
        try:
            pending = [self._pending(row.exec_id, wait) for wait in waits if wait.kind == "input"]
            sleeps = [wait.expires_at for wait in waits if wait.kind == "timer" and wait.expires_at is not None]
            alive = row.ended_at is None and self._access.is_alive(row.runner)
            return from_row(row, pending, min(sleeps, default=None), alive).bound(self._client)
        except _DAMAGE as error:
            return self._from_events(row.exec_id, error)

    def _in_inbox(self, exec_id: str, row: WaitRow) -> PendingWait:
        try:
            return self._pending(exec_id, row)
        except _DAMAGE as error:
            pending = self._from_events(exec_id, error).pending_waits
            found = next((wait for wait in pending if wait.wait_id == wait_id(exec_id, row.wait)), None)
            if found is None:
                raise _damaged(exec_id, error) from error
            return found

    def _pending(self, exec_id: str, row: WaitRow) -> PendingWait:
        if not row.whole:
            from kitaru.client.history import pending_of

            return pending_of(self._access, exec_id, row)
        return wait_from_row(exec_id, row)

    def _from_events(self, exec_id: str, error: Exception) -> Execution:
        """What a row that cannot be read would say, so that it hides no other execution. That it is damaged is logged."""
        from kitaru.client.history import read_as_listed

        if isinstance(error, KitaruError) and error.code not in _DAMAGE_CODES:
            raise error
        damaged = _damaged(exec_id, error)
        try:
            found = read_as_listed(self._client, self._access, exec_id)
        except (TypeError, KitaruNotFoundError):  # the id is what is damaged
            found = None
        if found is None:
            raise damaged from error
        logger.warning("%s. It is shown from its events.", damaged.message)
        return found


def _damaged(exec_id: str, error: Exception) -> KitaruBackendError:
    return KitaruBackendError(
        f"the read model's row of execution {exec_id!r} is damaged ({error}); run `kitaru store verify`, then "
        "`kitaru store rebuild`",
        code="store-corrupt",
    )


def _window(limit: object, page: object, size: object) -> tuple[int, int | None]:
    """The first and the last place that are asked for."""
    for name, value, least in (("limit", limit, 0), ("page", page, 1), ("size", size, 1)):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
            raise KitaruUsageError(f"{name} has to be a whole number from {least}, not {value!r}")
    most = limit if isinstance(limit, int) else None
    if page is None and size is None:
        return 0, most
    rows = size if isinstance(size, int) else 20
    first = (page - 1 if isinstance(page, int) else 0) * rows
    last = first + rows
    return (first, last) if most is None else (min(first, most), min(last, most))
