"""The stores that the benchmarks ask: whole, the same for a seed, and with everything in them that statistics meet."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.population import cache
from kitaru.compose import projectors
from kitaru.store.sqlite.connection import database_path
from kitaru.store.sqlite.log import SQLiteLog
from kitaru.store.sqlite.verify import verify

SIZE = 1_500


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cache.store_of(SIZE, folder=tmp_path_factory.mktemp("populations"))


def dump(store: Path) -> list[str]:
    with closing(sqlite3.connect(f"{Path(database_path(str(store))).as_uri()}?mode=ro", uri=True)) as connection:
        return list(connection.iterdump())


def ask(store: Path, sql: str) -> Iterator[tuple[object, ...]]:
    with closing(sqlite3.connect(f"{Path(database_path(str(store))).as_uri()}?mode=ro", uri=True)) as connection:
        yield from connection.execute(sql).fetchall()


def test_a_population_is_a_store_that_verifies(store: Path) -> None:
    report = verify(str(store), projectors())
    assert (report.problems, report.executions) == ((), SIZE)


def test_its_read_models_are_what_a_rebuild_makes(store: Path, tmp_path: Path) -> None:
    copy = cache.store_of(SIZE, folder=tmp_path)
    log = SQLiteLog(str(copy), projectors())
    try:
        log.rebuild()
    finally:
        log.close()
    rows = [line for line in dump(copy) if line.startswith("INSERT") and "meta" not in line]
    assert rows == [line for line in dump(store) if line.startswith("INSERT") and "meta" not in line]


def test_the_same_seed_draws_the_same_store(store: Path, tmp_path: Path) -> None:
    assert dump(cache.store_of(SIZE, folder=tmp_path)) == dump(store)


def test_another_seed_draws_another_store(store: Path, tmp_path: Path) -> None:
    assert dump(cache.store_of(SIZE, seed=8, folder=tmp_path)) != dump(store)


def test_a_store_that_is_there_is_not_built_again(store: Path) -> None:
    before = Path(database_path(str(store))).stat().st_mtime_ns
    assert cache.store_of(SIZE, folder=store.parent) == store
    assert Path(database_path(str(store))).stat().st_mtime_ns == before


def test_every_status_and_kind_of_metadata_is_in_it(store: Path) -> None:
    statuses = {row[0] for row in ask(store, "SELECT DISTINCT status FROM executions")}
    kinds = {row[0] for row in ask(store, "SELECT DISTINCT kind FROM execution_metadata WHERE key = 'result'")}
    assert statuses == {"running", "waiting", "completed", "failed", "cancelled"}
    assert kinds == {"n", "t", "b"}


def test_everything_that_happens_in_a_store_has_happened(store: Path) -> None:
    types = {row[0] for row in ask(store, "SELECT DISTINCT type FROM events")}
    assert {"LLMUsageRecorded", "CheckpointReused", "AttemptFailed", "ExecutionRetried", "WaitExpired"} <= types


def test_flows_are_skewed(store: Path) -> None:
    counts = sorted(
        (int(str(row[0])) for row in ask(store, "SELECT count(*) FROM executions GROUP BY flow_id")), reverse=True
    )
    assert counts[0] > 10 * counts[-1]
