"""`client.executions`: what is read, and the commands. Whatever goes on goes on in the background of this process."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Unpack

from kitaru import compose
from kitaru.client.names import current_user
from kitaru.client.reading import Reading
from kitaru.domain.errors import KitaruError, KitaruStateError, KitaruUsageError
from kitaru.domain.limits import MAX_NAME_CHARS, MAX_TAGS

if TYPE_CHECKING:
    from kitaru.client.models import BulkItem, Execution
    from kitaru.projections.listing import Selection

logger = logging.getLogger("kitaru")


class Executions(Reading):
    """The executions of a client's store and project. Ids may be shortened to any unique prefix.

    Commands give snapshots as a list shows them: the calls and values of a long execution are not read for them.
    """

    def input(self, exec_id: str, *, wait: str, value: object, by: str | None = None) -> Execution:
        """Answer a pending wait, named by its name or id; `by` is the operating system's user unless it is given.

        Raises KitaruWaitValidationError for a value that does not fit the wait's schema (it stays open), and
        KitaruStateError when no such wait is pending.
        """
        full = self._access.resolve(exec_id)
        compose.answer(self._access.choice, full, wait, value, by)
        return self.peek(full)

    def abort_wait(self, exec_id: str, *, wait: str) -> Execution:
        """Give a pending wait up; the execution is cancelled with it. Raises KitaruStateError."""
        full = self._access.resolve(exec_id)
        compose.abort_wait(self._access.choice, full, wait)
        return self.peek(full)

    def cancel(self, exec_id: str) -> Execution:
        """Cancel: at once where no runner is alive, else at its next boundary. Raises KitaruStateError when it has ended."""
        full = self._access.resolve(exec_id)
        compose.cancel(self._access.choice, full)
        return self.peek(full)

    def resume(self, exec_id: str, *, target: str | None = None, detach: bool = False) -> Execution:
        """Go on with an execution that nobody runs; with `detach` a worker does. `target` (FILE:flow): its code.

        Raises KitaruStateError when it has ended, is run by somebody, waits for input or is not due; KitaruRuntimeError
        when its flow cannot be loaded. It stays as it was then.
        """
        full = self._access.resolve(exec_id)
        compose.resume(self._access.choice, full, target, detach=detach)
        return self.peek(full)

    def retry(self, exec_id: str, *, target: str | None = None, detach: bool = False) -> Execution:
        """Run a failed execution on: completed checkpoints are reused, the failed ones run again. Otherwise as `resume`."""
        full = self._access.resolve(exec_id)
        compose.retry(self._access.choice, full, target, detach=detach)
        return self.peek(full)

    def replay(
        self, exec_id: str, *, from_: str, overrides: Mapping[str, object] | None = None, **inputs: object
    ) -> Execution:
        """Start a new execution that takes over what the old one recorded before `from_`; the new one's snapshot.

        from_: a checkpoint's name, invocation id or call id. overrides: results by `checkpoint.<the same>`. inputs replace
        the flow's old ones by name. Raises KitaruStateError, KitaruUsageError, KitaruRuntimeError.
        """
        full = self._access.resolve(exec_id)
        return self.peek(compose.replay(self._access.choice, full, from_, overrides, inputs).exec_id)

    def cancel_all(self, *, dry_run: bool = False, **selection: Unpack[Selection]) -> list[BulkItem]:
        """Cancel the unfinished executions that match, filtered as in `list`; with `dry_run` only say which."""
        from kitaru.client import bulk

        return bulk.cancel_all(self, selection, dry_run=dry_run)

    def retry_all(
        self, *, dry_run: bool = False, detach: bool = False, concurrency: int = 8, **selection: Unpack[Selection]
    ) -> list[BulkItem]:
        """Retry the failed executions that match, `concurrency` at once; returns when the last has begun."""
        from kitaru.client import bulk

        return bulk.retry_all(self, self._access, selection, dry_run=dry_run, detach=detach, concurrency=concurrency)

    def resume_all(
        self, *, dry_run: bool = False, detach: bool = False, concurrency: int = 8, **selection: Unpack[Selection]
    ) -> list[BulkItem]:
        """Resume the executions that match and could go on, `concurrency` at once; returns when the last has begun."""
        from kitaru.client import bulk

        return bulk.resume_all(self, self._access, selection, dry_run=dry_run, detach=detach, concurrency=concurrency)

    def tag(self, exec_id: str, add: str | Iterable[str] = (), remove: str | Iterable[str] = ()) -> Execution:
        """Add and remove tags; the execution afterwards. Raises KitaruUsageError."""
        added, removed = _tags(add), _tags(remove)
        if not added and not removed:
            raise KitaruUsageError("no tag was given; name what to add or to remove")
        full = self._access.resolve(exec_id)
        from kitaru.domain.commands import ChangeTags

        self._access.log().execute(full, ChangeTags(added, removed, current_user()), time.time_ns() // 1000)
        return self.get(full)

    def delete(self, exec_id: str) -> bool:
        """Remove a finished execution with its events, values and logs: no byte of them stays in the store's files.

        False: while somebody reads the store as it was before, its bytes stay in the WAL; `kitaru store gc` empties it then.
        Raises KitaruStateError when it is not finished.
        """
        from kitaru.client import upkeep

        return upkeep.delete(self._access.choice, self._access.resolve(exec_id))

    def recover(self, exec_id: str | None = None, *, target: str | None = None) -> list[Execution]:
        """Go on with the executions whose runner is gone, in the background of this process; with an id, with that one.

        What is queued for workers is left to them, unless it is named: then it runs here, and no worker takes it.
        They are given as a list gives them: a moment after they were claimed. `target` (FILE:flow) names another place of
        the code. Raises KitaruStateError when the named execution is not lost, and what kept the code from being loaded;
        of many, those that cannot go on are logged and left as they were.
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
        return [self.peek(found) for found in recovered]

    def find_lost(self, exec_id: str | None = None) -> list[str]:
        """The ids of executions that should be running and have no live runner; oldest first.

        Those that are queued for workers are left out. With an id: that one, queued or not. Raises KitaruNotFoundError for
        it, and KitaruStateError when it is not lost.
        """
        if exec_id is None:
            if self._access.find_reader() is None:
                return []
            return compose.find_lost(self._access.choice, self._access.project, with_queued=False)
        found = self.peek(exec_id)
        if not compose.is_lost(self._access.choice, found.exec_id):
            what = "its runner is alive" if found.runner == "alive" else found.status_reason or f"it is {found.status}"
            raise KitaruStateError(f"the execution {found.exec_id} is not lost: {what}")
        return [found.exec_id]


def _tags(tags: str | Iterable[str]) -> tuple[str, ...]:
    found = (tags,) if isinstance(tags, str) else tuple(dict.fromkeys(tags))
    for tag in found:
        if not isinstance(tag, str) or not tag.strip() or not tag.isprintable() or len(tag) > MAX_NAME_CHARS:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise KitaruUsageError(f"{tag!r} cannot be a tag: a printable text of at most {MAX_NAME_CHARS} characters can")
    if len(found) > MAX_TAGS:
        raise KitaruUsageError(f"{len(found)} tags were given; {MAX_TAGS} are allowed")
    return found
