"""The answers that P9 and P11 compare before they take a time: the same where they have to be, else an error."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from benchmarks.contenders import exports
from benchmarks.contenders.questions import ADDED_TAG, QUESTIONS, Rows, are_equal, changed_numbers
from benchmarks.measures.statistics import ask
from benchmarks.population import cache
from benchmarks.population.columns import columns_of
from benchmarks.rounds import ROOT, python
from kitaru import KitaruClient
from kitaru.compose import close_logs, open_log
from kitaru.domain.commands import ChangeTags
from kitaru.settings import StoreChoice

SIZE, CHANGED = 300, 40


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cache.store_of(SIZE, folder=tmp_path_factory.mktemp("populations"))


@pytest.fixture(scope="module")
def columns(store: Path) -> Path:
    return columns_of(store)


@pytest.fixture
def bare() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


@pytest.fixture(scope="module")
def files(store: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the client exports."""
    folder = tmp_path_factory.mktemp("exports") / "out"
    with KitaruClient(store=str(store)) as client:
        client.export(folder, tables="executions")
    return str(folder / "executions" / "*.parquet")


def ask_bare(columns: Path, *asked: object) -> list[Rows]:
    command = python("benchmarks.contenders.bare_duckdb", columns, *asked, *QUESTIONS)
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [[tuple(row) for row in rows] for rows in json.loads(said)]


def copied(bare: duckdb.DuckDBPyConnection, files: str, path: Path, change: str = "SELECT * FROM made") -> str:
    """The same as DuckDB copies it, or with something changed."""
    bare.execute("CREATE TABLE made AS FROM read_parquet(?)", (files,))
    bare.execute(f"COPY ({change}) TO '{path}' (FORMAT parquet)")
    return str(path)


def test_an_export_holds_the_rows_of_a_copy_and_of_the_native_columns(
    bare: duckdb.DuckDBPyConnection, files: str, columns: Path, tmp_path: Path
) -> None:
    exports.compare(bare, files, copied(bare, files, tmp_path / "copy.parquet"), str(columns))


@pytest.mark.parametrize(
    "change",
    [
        "SELECT * FROM made LIMIT 299",
        "SELECT * REPLACE (lower(flow_name) || 'x' AS flow_name) FROM made",
        "SELECT * REPLACE (attempt_count + (row_number() OVER () = 7)::INTEGER AS attempt_count) FROM made",
        "SELECT * FROM made UNION ALL (FROM made LIMIT 1)",
    ],
)
def test_a_copy_with_other_rows_is_an_error(
    bare: duckdb.DuckDBPyConnection, files: str, columns: Path, tmp_path: Path, change: str
) -> None:
    with pytest.raises(ValueError, match="differ"):
        exports.compare(bare, files, copied(bare, files, tmp_path / "copy.parquet", change), str(columns))


def test_an_export_of_other_executions_than_the_columns_is_an_error(
    bare: duckdb.DuckDBPyConnection, files: str, columns: Path, tmp_path: Path
) -> None:
    fewer = copied(bare, files, tmp_path / "fewer.parquet", "SELECT * FROM made WHERE status <> 'failed'")
    with pytest.raises(ValueError, match="native columns"):
        exports.compare(bare, fewer, fewer, str(columns))


def test_after_changes_only_the_answer_by_tag_is_another_and_it_is_known(columns: Path, tmp_path: Path) -> None:
    changed = cache.store_of(SIZE, folder=tmp_path)
    log = open_log(StoreChoice(str(changed), "of the test"))
    numbers = changed_numbers(SIZE, CHANGED)
    for (exec_id,) in log.query(
        "SELECT exec_id FROM executions WHERE number IN (SELECT value FROM json_each(?))", (str(numbers),)
    ):
        log.execute(str(exec_id), ChangeTags((ADDED_TAG,), (), "bench"), 1)
    close_logs()
    ours = ask(changed, QUESTIONS)
    before, after = ask_bare(columns, "--answers"), ask_bare(columns, "--answers-after", CHANGED)
    assert all(map(are_equal, ours, after))
    assert [name for name, *both in zip(QUESTIONS, ours, before, strict=True) if not are_equal(*both)] == ["tag"]
    assert (ADDED_TAG, CHANGED) in ours[list(QUESTIONS).index("tag")]
