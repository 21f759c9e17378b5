"""The same executions in ideal native columns: one DuckDB file for the bare baselines, made once beside the store."""

from __future__ import annotations

import csv
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from kitaru.store.sqlite.connection import database_path

_EXECUTIONS = """SELECT e.number, e.status, e.flow_id, e.stack, e.started_at, (e.ended_at - e.started_at) / 1e6,
    e.checkpoint_count, e.cached_step_count, e.artifact_count, tier.value, score.value, amount.value
    FROM executions e
    LEFT JOIN execution_metadata tier ON tier.key = 'customer_tier' AND tier.number = e.number
    LEFT JOIN execution_metadata score ON score.key = 'score' AND score.number = e.number
    LEFT JOIN execution_metadata amount ON amount.key = 'amount' AND amount.number = e.number ORDER BY e.number"""
_TAGS = """SELECT e.number, t.tag FROM executions e LEFT JOIN execution_tags t ON t.number = e.number ORDER BY e.number"""

_MAKE = (
    "CREATE TYPE status AS ENUM ('running', 'waiting', 'completed', 'failed', 'cancelled')",
    """CREATE TABLE executions AS SELECT number, status::status AS status, flow_id, stack,
        make_timestamp(started_at) AS started_at, duration, checkpoint_count, cached_step_count, artifact_count,
        customer_tier, score, amount
        FROM read_csv($executions, header = false, columns = {'number': 'INTEGER', 'status': 'VARCHAR',
        'flow_id': 'VARCHAR', 'stack': 'VARCHAR', 'started_at': 'BIGINT', 'duration': 'DOUBLE',
        'checkpoint_count': 'INTEGER', 'cached_step_count': 'INTEGER', 'artifact_count': 'INTEGER',
        'customer_tier': 'VARCHAR', 'score': 'INTEGER', 'amount': 'DOUBLE'})""",
    """CREATE TABLE tags AS SELECT * FROM read_csv($tags, header = false,
        columns = {'number': 'INTEGER', 'tag': 'VARCHAR'})""",
)


def columns_of(store: Path) -> Path:
    """The DuckDB file of a population's store."""
    import duckdb

    target = store.with_name(f"{store.name}-columns.duckdb")
    if target.exists():
        return target
    with tempfile.TemporaryDirectory(prefix="columns-", dir=store.parent) as room:
        made = Path(room) / "made.duckdb"
        files = {name: _write_csv(store, Path(room) / name, sql) for name, sql in _READS.items()}
        with closing(duckdb.connect(str(made))) as connection:
            for statement in _MAKE:
                wanted = {name: str(path) for name, path in files.items() if f"${name}" in statement}
                connection.execute(statement, wanted or None)
        made.rename(target)
    return target


_READS = {"executions": _EXECUTIONS, "tags": _TAGS}


def _write_csv(store: Path, path: Path, sql: str) -> Path:
    uri = f"{Path(database_path(str(store))).absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True)) as connection, path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(connection.execute(sql))
    return path
