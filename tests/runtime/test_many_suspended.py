"""10,000 suspended executions cost a process nothing: no thread, and a look reads no row of theirs.

Counted are statements, and the steps of SQLite's machine, which take every row that is touched. Times are printed only.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from kitaru.client import KitaruClient
from kitaru.compose import open_log, projectors
from kitaru.domain import commands as c
from kitaru.domain import events as e
from kitaru.runtime import recovery
from kitaru.runtime import worker as working
from kitaru.runtime.clock import install
from kitaru.settings import StoreChoice
from kitaru.store.log import EventLog
from kitaru.store.sqlite.log import SQLiteLog
from kitaru.testing import FakeClock
from kitaru.testing.events import append, new_id, started
from tests.runtime import scripts

MANY = 10_000
DAY = 24 * 3600 * 1_000_000
NOW = 4_000_000_000_000_000  # in 2096: processes of their own, which have the machine's clock, see nothing due
MONTH = NOW + 30 * DAY
LOOKS = {
    "who may have something to do": (recovery._LIST_UNFINISHED, ("default", NOW)),
    "when the next is due": (working._NEXT_DUE, (NOW,)),
}

PLANS = {
    "who may have something to do": {
        "SEARCH executions USING INDEX executions_by_status_g1 (project=? AND status=?)",
        "SEARCH executions USING INDEX executions_unattended_g1 (project=? AND status=?)",
        "SEARCH w USING COVERING INDEX pending_waits_due_g1 (expires_at<?)",
        "SEARCH e USING INTEGER PRIMARY KEY (rowid=?)",
    },
    "when the next is due": {"SEARCH pending_waits USING COVERING INDEX pending_waits_due_g1 (expires_at>?)"},
}


def fill(log: EventLog, many: int) -> None:
    """Suspended executions: every other one waits for input, the rest sleeps for 30 days, a second apart."""
    for number in range(many):
        head = log.execute(new_id(), c.Start(started(at=NOW), "gone"), NOW)[0]
        kind = "timer" if number % 2 else "input"
        until = MONTH + number * 1_000_000 if number % 2 else None
        opened = e.WaitOpened(at=NOW, wait=1, kind=kind, invocation_id="w", name="w", expires_at=until)  # type: ignore[arg-type]
        append(log, head, opened, e.ExecutionSuspended(at=NOW))


class Stores(NamedTuple):
    """Where the stores are."""

    full: Path
    empty: Path


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Stores:
    """A store with 10,000 suspended executions and one with two. Nothing here writes to them afterwards."""
    folder = tmp_path_factory.mktemp("many")
    found = Stores(folder / "full", folder / "empty")
    for path, many in zip(found, (MANY, 2), strict=True):
        log = SQLiteLog(str(path), projectors(), durability="os")
        fill(log, many)
        log.close()
    return found


@pytest.fixture(autouse=True)
def at_the_time() -> Iterator[FakeClock]:
    """An hour after all of them fell asleep."""
    clock = FakeClock(NOW + 3_600_000_000)
    before = install(clock)
    yield clock
    install(before)


class Cost(NamedTuple):
    """What a look asked of SQLite."""

    statements: list[str]
    steps: int


def cost_of(log: Any, look: Any) -> Cost:
    """What it costs, on connections that are open already."""
    pool, asked, steps = log._pool, list[str](), [0]
    connections = [pool.take() for _ in range(3)]

    def step() -> None:
        steps[0] += 1

    for connection in connections:
        connection.set_trace_callback(asked.append)
        connection.set_progress_handler(step, 1)
        pool.give(connection)
    look()
    for connection in connections:
        connection.set_trace_callback(None)
        connection.set_progress_handler(None, 1)
    return Cost(asked, steps[0])


def look_of_a_worker(log: EventLog) -> Cost:
    worker = working.Worker(log, "default")

    def look() -> None:
        assert worker.turn() == 0
        assert 0 < worker._pause() <= 1

    look()  # what is read once, and statements that are compiled once
    return cost_of(log, look)


def opened(path: Path) -> EventLog:
    return open_log(StoreChoice(str(path), "of the test"))


def test_a_look_of_a_worker_costs_what_it_costs_in_an_empty_store(stores: Stores) -> None:
    full, empty = look_of_a_worker(opened(stores.full)), look_of_a_worker(opened(stores.empty))
    assert len(full.statements) == len(empty.statements) == 2
    assert full.steps <= empty.steps + 10, (full.steps, empty.steps)


def test_only_what_is_due_is_read(stores: Stores, at_the_time: FakeClock) -> None:
    """A month later the first three sleepers are due: they are found among 10,000, for the cost of three."""
    at_the_time.advance((MONTH - NOW) / 1_000_000 - 3600 + 5)
    log = opened(stores.full)
    found: list[str] = []
    cost = cost_of(log, lambda: found.extend(recovery.candidates(log, "default")))
    assert len(found) == 3
    assert cost.steps < 400, cost.steps


@pytest.mark.parametrize("what", LOOKS)
def test_a_look_searches_by_indexes_that_the_suspended_are_not_in(stores: Stores, what: str) -> None:
    sql, parameters = LOOKS[what]
    plan = [str(row[3]) for row in opened(stores.full).query(f"EXPLAIN QUERY PLAN {sql}", parameters)]
    used = {line for line in plan if line.startswith(("SEARCH", "SCAN"))}
    assert used == PLANS[what]


# --- a worker, and a process that only waits, of their own ------------------------------------------------------------

WORKER = """
    import json, sys, threading, time
    from kitaru.compose import open_log
    from kitaru.runtime.worker import Worker
    from kitaru.settings import resolve_store

    worker = Worker(open_log(resolve_store()), "default")
    thread = threading.Thread(target=worker.run)
    thread.start()
    time.sleep(0.5)
    used = time.process_time()
    time.sleep(2)
    used = time.process_time() - used
    print(json.dumps({"threads": len(threading.enumerate()), "cpu": used}))
    worker.stop()
    thread.join()
    """
PLAIN = """
    import json, threading, time
    from kitaru import flow
    from kitaru.compose import open_log
    from kitaru.settings import resolve_store

    @flow
    def nothing():
        return 1

    log = open_log(resolve_store())
    log.changes.wait(log.changes.token(), 0.2)
    used = time.process_time()
    log.changes.wait(log.changes.token(), 2)
    used = time.process_time() - used
    print(json.dumps({"threads": len(threading.enumerate()), "cpu": used}))
    """


@pytest.mark.parametrize(("name", "body"), [("worker", WORKER), ("plain", PLAIN)])
def test_a_process_has_as_many_threads_as_on_an_empty_store(stores: Stores, tmp_path: Path, name: str, body: str) -> None:
    script = scripts.write(tmp_path / f"{name}.py", body, head=False)
    found: dict[str, dict[str, float]] = {}
    for what, path in zip(("empty", "full"), (stores.empty, stores.full), strict=True):
        ran = scripts.run(script, path)
        assert ran.returncode == 0, ran.stderr
        found[what] = json.loads(ran.stdout)
    assert found["full"]["threads"] == found["empty"]["threads"]
    ratio = found["full"]["cpu"] / found["empty"]["cpu"]
    print(f"{name}: {found['full']['cpu'] / 2:.2%} of a core with {MANY:,} suspended, {ratio:.2f} times that without")


def test_a_process_that_ends_waits_for_none_of_them(stores: Stores, tmp_path: Path) -> None:
    """What sleeps for a month is in no thread: a flow of the same store runs, and its process ends."""
    copied = tmp_path / "copied"
    shutil.copytree(stores.full, copied)
    body = """
        @flow
        def short():
            return 1

        if __name__ == "__main__":
            print(short.run().wait())
        """
    ran = scripts.run(scripts.write(tmp_path / "short.py", body), copied)
    assert (ran.returncode, ran.stdout) == (0, "1\n"), ran.stderr


def test_every_one_of_them_is_in_the_listings(stores: Stores) -> None:
    with KitaruClient(str(stores.full)) as client:
        assert len(client.executions.pending_waits()) == MANY // 2
        assert [found.runner for found in client.executions.list(status="waiting", limit=3)] == ["none"] * 3
        assert client.executions.find_lost() == []
