"""The same command for every execution that matches a filter. One that is refused does not keep the others back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from kitaru import compose
from kitaru.client.access import Access
from kitaru.client.models import BulkItem, ErrorInfo, Execution
from kitaru.domain.errors import KitaruError, KitaruUsageError
from kitaru.projections.listing import Selection

if TYPE_CHECKING:
    from kitaru.client.executions import Executions

_LOOK_SECONDS = 0.05


def cancel_all(executions: Executions, selection: Selection, *, dry_run: bool) -> list[BulkItem]:
    """Cancel the unfinished executions that match."""
    found = _select(executions, "cancel", ("running", "waiting"), selection)
    return _each(executions, found, lambda each: executions.cancel(each.exec_id), dry_run=dry_run)


def retry_all(
    executions: Executions, access: Access, selection: Selection, *, dry_run: bool, detach: bool, concurrency: int
) -> list[BulkItem]:
    """Retry the failed executions that match."""
    slots = _Slots(concurrency)
    found = _select(executions, "retry", ("failed",), selection)

    def retried(each: Execution) -> None:
        slots.take(lambda: compose.retry(access.choice, each.exec_id, detach=detach))

    return _each(executions, found, retried, dry_run=dry_run)


def resume_all(
    executions: Executions, access: Access, selection: Selection, *, dry_run: bool, detach: bool, concurrency: int
) -> list[BulkItem]:
    """Resume the executions that match and that nobody runs though they could go on."""
    slots = _Slots(concurrency)
    found = _select(executions, "resume", ("running", "waiting"), selection)
    able = set(compose.find_lost(access.choice, access.project, with_queued=True)) if found else set[str]()

    def resumed(each: Execution) -> None:
        slots.take(lambda: compose.resume(access.choice, each.exec_id, detach=detach))

    return _each(executions, [each for each in found if each.exec_id in able], resumed, dry_run=dry_run)


def _select(executions: Executions, verb: str, allowed: tuple[str, ...], selection: Selection) -> list[Execution]:
    """The executions that match and have a status in which the command makes sense, oldest first."""
    if not any(selection.values()):
        raise KitaruUsageError(f"{verb} what? Name at least one filter, such as status={allowed[0]!r}")
    status = selection.get("status")
    given = list(allowed) if not status else [status] if isinstance(status, str) else list(status)
    for each in given:
        if each not in allowed and each in ("running", "waiting", "completed", "failed", "cancelled"):
            raise KitaruUsageError(f"{verb} is for executions that are {' or '.join(allowed)}, not {each}")
    chosen = selection.copy()
    chosen["status"] = given
    return executions.list(**chosen)[::-1]


def _each(
    executions: Executions, found: list[Execution], act: Callable[[Execution], object], *, dry_run: bool
) -> list[BulkItem]:
    items: list[BulkItem] = []
    for each in found:
        if dry_run:
            items.append(BulkItem(execution=each, outcome="would"))
            continue
        try:
            act(each)
        except KitaruError as error:
            refused = ErrorInfo(type=type(error).__name__, code=error.code, message=error.message)
            items.append(BulkItem(execution=each, outcome="refused", error=refused))
        else:
            items.append(BulkItem(execution=executions.peek(each.exec_id), outcome="done"))
    return items


class _Runner(Protocol):
    """What a bulk command knows of a runner."""

    @property
    def done(self) -> threading.Event:
        """Set once it has left."""
        ...


class _Slots:
    """Lets so many runners live at once."""

    def __init__(self, concurrency: object) -> None:
        if not isinstance(concurrency, int) or isinstance(concurrency, bool) or concurrency < 1:
            raise KitaruUsageError(f"concurrency has to be a whole number from 1, not {concurrency!r}")
        self._most = concurrency
        self._live: list[_Runner] = []

    def take(self, begin: Callable[[], _Runner | None]) -> None:
        """Begin once there is room."""
        while len(self._live) >= self._most:
            self._live[0].done.wait(_LOOK_SECONDS)
            self._live = [runner for runner in self._live if not runner.done.is_set()]
        runner = begin()
        if runner is not None:
            self._live.append(runner)
