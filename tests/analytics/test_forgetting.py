"""R29: what is deleted while a base is built is in no base afterwards, at whatever moment it happens."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from kitaru.analytics import generations
from kitaru.analytics.build import build
from kitaru.analytics.generations import FAMILIES, Family
from kitaru.compose import open_log
from kitaru.domain import events as e
from kitaru.settings import StoreChoice
from kitaru.store.log import EventLog, Reads
from kitaru.testing.events import append
from tests.analytics.filling import end, run

CANARY = "canary"
CALL = e.AttemptStarted(at=2, call=1, attempt=1, invocation_id=CANARY, name=CANARY, input_digest="0" * 64)


class Interrupted:
    """A store in which something happens at the n-th time that a moment of it begins or ends."""

    def __init__(self, log: EventLog, at: int, act: Any) -> None:
        self._log, self._left, self._act = log, at, act
        self.store_id = log.store_id

    @property
    def has_happened(self) -> bool:
        return self._left <= 0

    @contextlib.contextmanager
    def snapshot(self) -> Generator[Reads]:
        self._count()
        with self._log.snapshot() as moment:
            yield moment
        self._count()

    def _count(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._act()


@pytest.mark.parametrize("is_first", [True, False], ids=["the first base", "a base on another"])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_deleted_while_a_base_is_built_is_in_none(folder: str, family: Family, is_first: bool) -> None:
    log = open_log(StoreChoice(folder, "of the test"))
    place = generations.make_place(folder)
    for at in range(1, 100):
        for number in range(3):
            run(log, at=number)
        head = run(log, CANARY, seconds=None, tags=(CANARY,), metadata={CANARY: CANARY})
        gone = end(log, append(log, head, CALL), 5)
        if not is_first:
            build(log, place, family)
        run(log)

        def forget(exec_id: str = gone.exec_id) -> None:
            log.delete(exec_id)
            generations.forget(folder)

        reads = Interrupted(log, at, forget)
        with contextlib.suppress(OSError, duckdb.Error):
            build(reads, place, family)  # type: ignore[arg-type]
        if not reads.has_happened:
            break
        assert CANARY not in texts_of(place), at
        assert build(log, place, family) is not None
        assert CANARY not in texts_of(place), at
    assert at > 6


def texts_of(place: str) -> str:
    """All that stands in the files of a folder, finished or not."""
    said: list[str] = []
    for name in sorted(os.listdir(place)):
        if name != "build.lock" and (Path(place) / name).stat().st_size > 0:
            with duckdb.connect(os.path.join(place, name), read_only=True) as connection:
                tables = connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()
                said += [str(connection.execute(f'FROM "{table}"').fetchall()) for (table,) in tables]
    return "".join(said)
