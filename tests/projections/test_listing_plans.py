"""P7, counted: every filter walks an index in the order of the list; nothing is scanned or sorted."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import islice

import pytest

from kitaru.projections.executions import Executions
from kitaru.projections.listing import Condition, Filters, rows, sources, usage
from kitaru.projections.usage import Usage
from kitaru.projections.waits import PendingWaits
from kitaru.store.sqlite import schema

WALKS = {
    "all": sources._ALL, "status": sources._STATUS, "stack": sources._STACK, "flow": sources._FLOW, "tag": sources._TAG,
    "time": sources._TIME, "equal": sources._EQUAL, "present": sources._PRESENT, "absent": sources._ABSENT,
    "unequal": sources._UNEQUAL, **sources._WALKS, "usage": usage.PRESENT, "no usage": usage.ABSENT,
    "within": usage.WITHIN, "outside": usage.OUTSIDE,
}  # fmt: skip
FEW = {"by time": sources._FEW_BY_TIME, **sources._RANGES, **usage.FEW}


def plan(sql: str) -> str:
    """How SQLite says it runs a statement, on tables as the store and the projections make them."""
    db = sqlite3.connect(":memory:")
    for statement in schema.CREATE:
        db.execute(statement)
    for projector in (Executions(""), PendingWaits(""), Usage("")):
        projector.create(db.execute, 1)
    return "\n".join(str(row[3]) for row in db.execute(f"EXPLAIN QUERY PLAN {sql}", (0,) * sql.count("?")))


@pytest.mark.parametrize("name", WALKS)
def test_a_walk_follows_an_index_and_never_sorts(name: str) -> None:
    found = plan(WALKS[name])
    assert "SCAN" not in found
    assert "TEMP B-TREE" not in found


@pytest.mark.parametrize("name", FEW)
def test_a_range_is_counted_on_an_index(name: str) -> None:
    assert "USING COVERING INDEX" in plan(FEW[name]) or "USING INDEX" in plan(FEW[name])


def test_the_inbox_reads_what_waits_and_nothing_else() -> None:
    found = plan(rows._INBOX)
    assert "SEARCH e USING INDEX executions_by_status" in found
    assert "SEARCH w USING PRIMARY KEY" in found
    assert "SEARCH events USING COVERING INDEX" in found
    assert "SCAN" not in found


def test_time_is_read_from_the_index_alone() -> None:
    assert "COVERING INDEX executions_by_project" in plan(sources._TIME)


def test_20_newest_of_many_take_three_statements() -> None:
    db = sqlite3.connect(":memory:")
    Executions("").create(db.execute, 1)
    many = [(n, f"e{n}", 1, "default", "f", "f", "local", "running", n) for n in range(1, 5001)]
    db.executemany(
        "INSERT INTO executions (number, exec_id, version, project, flow_id, flow_name, stack, status, started_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        many,
    )
    asked: list[str] = []

    def query(sql: str, parameters: object) -> list[tuple[object, ...]]:
        asked.append(sql)
        return db.execute(sql, tuple(parameters)).fetchall()  # type: ignore[call-overload]

    found = sources.find_numbers(query, sources.Filters("default"))
    assert [next(found) for _ in range(20)] == list(range(5000, 4980, -1))
    assert len(asked) <= 3


def test_a_flow_that_has_none_of_a_status_is_known_without_a_walk_through_its_others() -> None:
    db = sqlite3.connect(":memory:")
    Executions("").create(db.execute, 1)
    db.execute("INSERT INTO flows (flow_id, flow_name, project) VALUES ('f', 'f', 'default')")
    rows = [(n, f"e{n}", "f", "running" if n % 2 else "completed") for n in range(1, 5001)]
    rows += [(n, f"e{n}", "g", "failed") for n in range(5001, 10001)]
    db.executemany(
        "INSERT INTO executions (number, exec_id, version, project, flow_id, flow_name, stack, status, started_at)"
        " VALUES (?, ?, 1, 'default', ?, 'f', 'local', ?, 0)",
        rows,
    )
    asked: list[str] = []

    def query(sql: str, parameters: object) -> list[tuple[object, ...]]:
        asked.append(sql)
        return db.execute(sql, tuple(parameters)).fetchall()  # type: ignore[call-overload]

    assert list(sources.find_numbers(query, sources.Filters("default", flow="f", statuses=("failed",)))) == []
    assert len(asked) <= 2


def test_sums_of_usage_that_thousands_have_are_walked_from_the_newest() -> None:
    db = sqlite3.connect(":memory:")
    for projector in (Executions(""), Usage("")):
        projector.create(db.execute, 1)
    numbers = range(1, 2_502)
    columns = "number, exec_id, version, project, flow_id, flow_name, stack, status, started_at"
    db.executemany(
        f"INSERT INTO executions ({columns}) VALUES (?, ?, 1, 'p', 'f', 'f', 'local', 'running', 0)",
        [(number, str(number)) for number in numbers],
    )
    rows = [(number, 1, 0, 0, number, *[0] * 12, "[]", "[]", "[]") for number in numbers]
    db.executemany(f"INSERT INTO llm_usage VALUES ({', '.join('?' * 20)})", rows)
    condition = Condition("kitaru_llm_total_tokens_v1", ">", 100)
    seen: list[str] = []

    def query(sql: str, parameters: Sequence[object]) -> list[tuple[object, ...]]:
        seen.append(sql)
        return db.execute(sql, tuple(parameters)).fetchall()  # type: ignore[arg-type]

    found = sources.find_numbers(query, Filters("p", where=(condition,)))
    assert list(islice(found, 20)) == list(range(2_501, 2_481, -1))
    assert usage.WITHIN in seen
    assert len(seen) < 10
