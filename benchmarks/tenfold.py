"""`python -m benchmarks.tenfold [SIZE]`: P8 over ten times a population, by replication; default 10 x 1,000,000.

The rows of the base and of the bare columns are repeated ten times, under numbers of their own; the store beside them stays
as it is, so that nothing but the number of rows differs.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from contextlib import closing
from pathlib import Path

from benchmarks import report
from benchmarks.__main__ import WORK
from benchmarks.measures.statistics import ask, compare
from benchmarks.population.cache import store_of
from benchmarks.population.columns import columns_of
from benchmarks.rounds import MIN_ROUNDS
from benchmarks.setting import Setting

TIMES = 10
_TABLES = "SELECT table_name FROM duckdb_tables() WHERE database_name = 'one'"


def main() -> None:
    """Measure and print; nothing is kept."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tenfold", description=__doc__)
    parser.add_argument("size", type=int, nargs="?", default=1_000_000, help="executions that are repeated")
    parser.add_argument("--rounds", type=int, default=MIN_ROUNDS)
    options = parser.parse_args()
    store, columns = store_of(options.size), columns_of(store_of(options.size))
    ask(store, ["status"])  # builds the base, if it is not there
    WORK.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="tenfold-", dir=WORK) as room:
        large, wide = Path(room) / "store", Path(room) / "columns.duckdb"
        shutil.copytree(store, large, ignore=shutil.ignore_patterns("*.duckdb"))
        for base in (store / "statistics").glob("executions-*.duckdb"):
            repeat(base, large / "statistics" / base.name, options.size)
        repeat(columns, wide, options.size)
        setting = Setting(Path(room), options.rounds, None, 0, 0, ())
        print(report.table(compare(setting, large, wide, TIMES * options.size)))


def repeat(source: Path, target: Path, size: int) -> None:
    """A DuckDB file whose tables hold the rows of another's ten times; those without numbers once."""
    import duckdb

    with closing(duckdb.connect(str(target))) as connection:
        connection.execute("ATTACH ? AS one (READ_ONLY)", (str(source),))
        for (table,) in connection.execute(_TABLES).fetchall():
            names = {row[0] for row in connection.execute(f"DESCRIBE one.{table}").fetchall()}
            connection.execute(f"CREATE TABLE {table} AS FROM one.{table} LIMIT 0")
            for time in range(TIMES if "number" in names else 1):
                shifted = f"REPLACE (number + {time * size} AS number)" if "number" in names else ""
                connection.execute(f"INSERT INTO {table} SELECT * {shifted} FROM one.{table}")


if __name__ == "__main__":
    main()
