"""`client.executions`: get, list, latest, events, and the commands."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Literal, overload

from kitaru import compose
from kitaru.client.access import Access
from kitaru.client.names import current_user
from kitaru.client.snapshots import from_row
from kitaru.domain.errors import KitaruBackendError, KitaruError, KitaruStateError, KitaruUsageError
from kitaru.domain.limits import MAX_NAME_CHARS, MAX_TAGS
from kitaru.projections.listing import ExecutionRow, Filters, find_numbers, make_filters, read_rows, read_waits

if TYPE_CHECKING:
    from kitaru.client.client import KitaruClient
    from kitaru.client.models import Execution, ExecutionEvent, PendingWait
    from kitaru.projections.listing import WaitRow
    from kitaru.store.read import Reader

logger = logging.getLogger("kitaru")

_ROWS = 256
"""Rows of a list that are fetched at once."""

Moment = datetime | str
Status = str | Iterable[str]


class Executions:
    """The executions of a client's store and project. Ids may be shortened to any unique prefix."""

    def __init__(self, client: KitaruClient, access: Access) -> None:
        self._client = client
        self._access = access

    def get(self, exec_id: str, at: int | None = None) -> Execution:
        """One execution in full; with `at`, as it was after that many events. Raises KitaruNotFoundError."""
        from kitaru.client.history import read_execution

        return read_execution(self._client, self._access, self._access.resolve(exec_id), at)

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

    @overload
    def events(self, exec_id: str, follow: Literal[False] = False) -> list[ExecutionEvent]: ...
    @overload
    def events(self, exec_id: str, follow: bool) -> list[ExecutionEvent] | Iterator[ExecutionEvent]: ...
    def events(self, exec_id: str, follow: bool = False) -> list[ExecutionEvent] | Iterator[ExecutionEvent]:
        """An execution's events, oldest first; with `follow` an iterator that waits for more until it is finished."""
        from kitaru.client.history import follow_events, read_events

        full = self._access.resolve(exec_id)
        return follow_events(self._access, full) if follow else list(read_events(self._access, full))

    def tag(self, exec_id: str, add: str | Iterable[str] = (), remove: str | Iterable[str] = ()) -> Execution:
        """Add and remove tags; the execution afterwards. Raises KitaruUsageError."""
        added, removed = _tags(add), _tags(remove)
        if not added and not removed:
            raise KitaruUsageError("no tag was given; name what to add or to remove")
        full = self._access.resolve(exec_id)
        from kitaru.domain.commands import ChangeTags

        self._access.log().execute(full, ChangeTags(added, removed, current_user()), time.time_ns() // 1000)
        return self.get(full)

    def delete(self, exec_id: str) -> None:
        """Remove a finished execution with its events and values. Raises KitaruStateError when it is not finished."""
        self._access.log().delete(self._access.resolve(exec_id))

    def recover(self, exec_id: str | None = None, *, target: str | None = None) -> list[Execution]:
        """Go on with an execution whose runner is gone, or with all of them, in the background of this process.

        `target` (FILE:flow) names another place of the code. Raises KitaruStateError when the named execution is not
        lost, and what kept the code from being loaded; of many, those that cannot go on are logged and left as they were.
        """
        lost = self.find_lost(exec_id)
        recovered: list[str] = []
        refused: KitaruError | None = None
        for found in lost:
            try:
                compose.recover(self._access.choice, [found], target)
                recovered.append(found)
            except KitaruError as error:
                logger.warning("%s was not recovered: %s", found, error)
                refused = refused or error
        if refused is not None and not recovered:
            raise refused
        return [self.get(found) for found in recovered]

    def find_lost(self, exec_id: str | None = None) -> list[str]:
        """The ids of executions that should be running and have no live runner; oldest first.

        With an id: that one. Raises KitaruNotFoundError for it, and KitaruStateError when it is not lost.
        """
        found = None if exec_id is None else self.get(exec_id)
        lost = compose.find_lost(self._access.choice, self._access.project) if self._access.find_reader() else []
        if found is None:
            return lost
        if found.exec_id not in lost:
            what = "its runner is alive" if found.runner == "alive" else found.status_reason or f"it is {found.status}"
            raise KitaruStateError(f"the execution {found.exec_id} is not lost: {what}")
        return [found.exec_id]

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
        pending: list[PendingWait] = []
        if any(wait.kind == "input" for wait in waits):
            from kitaru.client.history import pending_of

            pending = [pending_of(self._access, row.exec_id, wait) for wait in waits if wait.kind == "input"]
        sleeps = [wait.expires_at for wait in waits if wait.kind == "timer" and wait.expires_at is not None]
        alive = row.ended_at is None and self._access.is_alive(row.runner)
        try:
            return from_row(row, pending, min(sleeps, default=None), alive).bound(self._client)
        except (ValueError, TypeError, LookupError, OverflowError, AttributeError) as error:
            raise KitaruBackendError(
                f"the read model's row of execution {row.exec_id!r} is damaged ({error}); run `kitaru store verify`, then "
                "`kitaru store rebuild`",
                code="store-corrupt",
            ) from error


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


def _tags(tags: str | Iterable[str]) -> tuple[str, ...]:
    found = (tags,) if isinstance(tags, str) else tuple(dict.fromkeys(tags))
    for tag in found:
        if not isinstance(tag, str) or not tag.strip() or not tag.isprintable() or len(tag) > MAX_NAME_CHARS:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise KitaruUsageError(f"{tag!r} cannot be a tag: a printable text of at most {MAX_NAME_CHARS} characters can")
    if len(found) > MAX_TAGS:
        raise KitaruUsageError(f"{len(found)} tags were given; {MAX_TAGS} are allowed")
    return found
