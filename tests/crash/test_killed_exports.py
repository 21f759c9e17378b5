"""An export that dies at any moment leaves the folder as it read before, and the next one brings it up to date."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kitaru.compose import close_logs, open_log
from kitaru.settings import StoreChoice
from kitaru.store.log import EventLog
from tests.analytics.exporting import ids_of
from tests.analytics.filling import end, run
from tests.crash.children import ForkServer
from tests.crash.tiers import tiers

TABLES = ["executions", "events"]
Shown = dict[str, list[str]]


@contextmanager
def store_of(folder: Path) -> Iterator[EventLog]:
    """The test's store, which this process leaves before another one looks at it."""
    yield open_log(StoreChoice(str(folder / "store"), "of the test"))
    close_logs()


def shown(folder: Path) -> Shown:
    """What readers see: every execution as often as it has rows."""
    return {table: ids_of(folder / "out", table) for table in TABLES if (folder / "out" / table).exists()}


def expected(folder: Path) -> Shown:
    with store_of(folder) as log:
        rows = log.query("SELECT exec_id, version FROM executions")
        return {
            "executions": sorted(str(exec_id) for exec_id, _ in rows),
            "events": sorted(str(exec_id) for exec_id, version in rows for _ in range(int(str(version)))),
        }


def change(folder: Path, chance: random.Random) -> None:
    """Some executions come, some go on, one goes."""
    with store_of(folder) as log:
        heads = [run(log, at=number, seconds=None) for number in range(6)]
        for head in chance.sample(heads, 3):
            end(log, head, 9)
        finished = log.query("SELECT exec_id FROM executions WHERE status = 'completed'")
        log.delete(str(chance.choice(finished)[0]))


def test_an_export_that_stops_before_any_of_its_steps_shows_what_was_there(
    forkserver: ForkServer, folder: Path, chance: random.Random
) -> None:
    change(folder, chance)
    forkserver.run("exporting:export", folder, tables=TABLES)
    before = expected(folder)
    change(folder, chance)
    after = expected(folder)
    whole = folder / "whole"
    shutil.copytree(folder / "out", whole, symlinks=True)
    ended: list[Shown] = []
    for step in range(1, 200):
        code = forkserver.start("exporting:export_until", folder, tables=TABLES, step=step).wait()
        found = shown(folder)
        assert found in (before, after), step
        if code == 0:
            break
        assert code == 9
        ended.append(found)
        if step % 5 == 0:
            forkserver.run("exporting:export", folder, tables=TABLES)
            assert shown(folder) == after, step
        shutil.rmtree(folder / "out")
        shutil.copytree(whole, folder / "out", symlinks=True)
    assert len(ended) > 15
    assert [before in ended, after in ended] == [True, True]


def test_a_first_export_that_stops_before_any_of_its_steps_shows_nothing_or_all(
    forkserver: ForkServer, folder: Path, chance: random.Random
) -> None:
    change(folder, chance)
    after = expected(folder)
    for step in range(1, 200):
        code = forkserver.start("exporting:export_until", folder, tables=TABLES, step=step).wait()
        assert shown(folder) in ({}, after), step
        if code == 0:
            break
        if step % 5 == 0:
            forkserver.run("exporting:export", folder, tables=TABLES)
            assert shown(folder) == after, step
        shutil.rmtree(folder / "out", ignore_errors=True)
    assert step > 15


def die_at_random(
    kills: int, forkserver: ForkServer, folder: Path, chance: random.Random, program: str, wanted: list[str], **asked: Any
) -> None:
    """Exports of these tables that are killed at any moment: each shows the one before, or itself; the last one is whole."""

    def whole() -> Shown:
        return {table: rows for table, rows in expected(folder).items() if table in wanted}

    change(folder, chance)
    began = time.monotonic()
    forkserver.run(program, folder, **asked)
    took = time.monotonic() - began
    for _ in range(kills):
        before = shown(folder)
        change(folder, chance)
        after = whole()
        child = forkserver.start(program, folder, **asked)
        child.await_line()
        time.sleep(chance.uniform(0, took))
        child.kill()
        assert shown(folder) in (before, after)
    forkserver.run(program, folder, **asked)
    assert shown(folder) == whole()


@tiers("kills", p=12, n=200)
def test_a_killed_export_shows_what_was_there_and_the_next_one_repairs_it(
    kills: int, forkserver: ForkServer, folder: Path, chance: random.Random
) -> None:
    die_at_random(kills, forkserver, folder, chance, "exporting:export", TABLES, tables=TABLES, partition_by="status")


@tiers("kills", p=6, n=150)
def test_an_export_that_is_killed_with_two_buckets_at_once_shows_what_was_there(
    kills: int, forkserver: ForkServer, folder: Path, chance: random.Random
) -> None:
    die_at_random(kills, forkserver, folder, chance, "exporting:export_by_twos", ["executions"], partition_by="month")


@tiers("rounds", p=4, n=60)
def test_of_exports_at_once_one_writes_and_the_others_are_told_or_come_after(
    rounds: int, forkserver: ForkServer, folder: Path, chance: random.Random
) -> None:
    for number in range(rounds):
        if number % 2:
            shutil.rmtree(folder / "out")
        change(folder, chance)
        children = forkserver.start_all("exporting:export_together", folder, [{}, {}, {}])
        codes = [child.finish()[-1]["code"] for child in children]
        assert set(codes) <= {None, "export-running"}, codes
        assert None in codes
        assert shown(folder) == {"executions": expected(folder)["executions"]}


def test_two_buckets_at_once_that_cannot_grow_are_one_typed_error(
    forkserver: ForkServer, folder: Path, chance: random.Random
) -> None:
    change(folder, chance)
    forkserver.run("exporting:export_by_twos", folder)
    before = shown(folder)
    change(folder, chance)
    (said,) = forkserver.run("exporting:export_into", folder, limit=600, by_twos=True)
    assert said["code"] == "disk-full", said
    assert shown(folder) == before
    assert sorted(path.name for path in (folder / "out" / ".export").iterdir()) == ["1", "current", "lock"]


@pytest.mark.parametrize("limit", [100, 600, 1_500, 3_000])
def test_files_that_may_not_grow_are_a_typed_error_and_what_was_there_stays(
    limit: int, forkserver: ForkServer, folder: Path, chance: random.Random
) -> None:
    change(folder, chance)
    forkserver.run("exporting:export", folder, tables=TABLES)
    before = shown(folder)
    change(folder, chance)
    (said,) = forkserver.run("exporting:export_into", folder, limit=limit)
    assert said["code"] == "disk-full", said
    assert shown(folder) == before
    assert sorted(path.name for path in (folder / "out" / ".export").iterdir()) == ["1", "current", "lock"]
    forkserver.run("exporting:export", folder, tables=TABLES)
    assert shown(folder) == expected(folder)
