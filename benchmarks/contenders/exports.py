"""Exports a population's executions to Parquet, by the client or by DuckDB's own COPY, a fresh folder each time."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.contenders.bare_duckdb import THREADS
from benchmarks.turns import Answer, serve

_COPY = "COPY executions TO ? (FORMAT parquet, COMPRESSION zstd)"
_TAKE = "CREATE TABLE executions AS FROM read_parquet(?)"


def main() -> None:
    """`python -m benchmarks.contenders.exports STORE FOLDER kitaru|bare`: serve rounds of one export.

    The bare one copies a native table of the very columns and rows that the client exports.
    """
    store, folder, who = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    folder.mkdir()
    _client_export(store, folder / "first")
    run = _bare(folder) if who == "bare" else _kitaru(store, folder)
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


def _bare(folder: Path) -> Callable[[int], Answer]:
    import duckdb

    connection = duckdb.connect(str(folder / "native.duckdb"), config={"threads": THREADS})
    connection.execute(_TAKE, (str(folder / "first" / "executions" / "*.parquet"),))

    def run(count: int) -> Answer:
        for number in range(count):
            connection.execute(_COPY, (str(folder / f"{number}.parquet"),)).fetchall()
        for number in range(count):
            (folder / f"{number}.parquet").unlink()
        return None

    return run


if __name__ == "__main__":
    main()
