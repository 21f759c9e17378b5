"""Exports a population's executions to Parquet, by the client or by DuckDB's own COPY, a fresh folder each time."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.contenders.bare_duckdb import THREADS
from benchmarks.contenders.questions import are_equal, in_order
from benchmarks.turns import Answer, serve

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_COPY = "COPY executions TO ? (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 16384)"
"""Compressed as the client does it, into one file; nothing is synced."""
_TAKE = "CREATE TABLE executions AS FROM read_parquet(?)"
_OF_ROWS = "SELECT count(*), bit_xor(hash(r)), sum(hash(r)) FROM read_parquet(?) r"
"""Of all cells: it is the same only for the same rows and types, in whatever order."""
_OF_FILES = """SELECT status, count(*), count(DISTINCT flow_id), sum(checkpoint_count), sum(duration),
    sum(CAST(metadata ->> '$.amount' AS DOUBLE)), sum(len(tags)) FROM read_parquet(?) GROUP BY status ORDER BY status"""
_OF_COLUMNS = """SELECT status::VARCHAR, count(*), count(DISTINCT flow_id), sum(checkpoint_count), sum(duration),
    sum(amount), sum(tagged) FROM columns.executions JOIN (SELECT number, count(tag) AS tagged FROM columns.tags
    GROUP BY number) USING (number) GROUP BY 1 ORDER BY 1"""


def main() -> None:
    """`python -m benchmarks.contenders.exports STORE FOLDER kitaru|bare COLUMNS`: serve rounds of one export.

    The bare one copies a native table of the very columns and rows that the client exports. Before it serves, it compares
    the files of both, and the client's with the population's ideal native columns, the file COLUMNS.
    """
    store, folder, who, columns = sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4]
    folder.mkdir()
    _client_export(store, folder / "first")
    run = _bare(folder, columns) if who == "bare" else _kitaru(store, folder)
    serve(run, warm_up=1)


def _client_export(store: str, target: Path) -> None:
    from kitaru import KitaruClient

    with KitaruClient(store=store) as client:
        client.export(target, tables=["executions"])


def _kitaru(store: str, folder: Path) -> Callable[[int], Answer]:
    def run(count: int) -> Answer:
        for number in range(count):
            _client_export(store, folder / f"{number}")
        for number in range(count):
            shutil.rmtree(folder / f"{number}")
        return None

    return run


def _bare(folder: Path, columns: str) -> Callable[[int], Answer]:
    import duckdb

    connection = duckdb.connect(str(folder / "native.duckdb"), config={"threads": THREADS})
    ours, theirs = str(folder / "first" / "executions" / "*.parquet"), str(folder / "first.parquet")
    connection.execute(_TAKE, (ours,))
    connection.execute(_COPY, (theirs,)).fetchall()
    compare(connection, ours, theirs, columns)

    def run(count: int) -> Answer:
        for number in range(count):
            connection.execute(_COPY, (str(folder / f"{number}.parquet"),)).fetchall()
        for number in range(count):
            (folder / f"{number}.parquet").unlink()
        return None

    return run


def compare(connection: DuckDBPyConnection, ours: str, bare: str, columns: str) -> None:
    """Raise unless two exports hold the same rows, and what stands in a population's native columns."""
    if connection.execute(_OF_ROWS, (ours,)).fetchall() != connection.execute(_OF_ROWS, (bare,)).fetchall():
        raise ValueError(f"the rows of {ours} and {bare} differ")
    connection.execute("ATTACH ? AS columns (READ_ONLY)", (columns,))
    exported, counted = (in_order(connection.execute(*of).fetchall()) for of in ((_OF_FILES, (ours,)), (_OF_COLUMNS,)))
    connection.execute("DETACH columns")
    if not are_equal(exported, counted):
        raise ValueError(f"what is exported differs from the native columns: {exported} and {counted}")


if __name__ == "__main__":
    main()
