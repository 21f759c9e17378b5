"""R17, R18: the read models' rows are the fold of the events, however they were batched, and a rebuild gives them again.

2,000 random stores in `make test`, 100,000 in `make crash`.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kitaru.compose import projectors
from kitaru.domain import events as e
from kitaru.domain.state import ABSENT, ExecutionState, evolve
from kitaru.domain.usage import UsageFigures
from kitaru.projections.artifacts import Artifacts
from kitaru.projections.executions import Executions
from kitaru.projections.listing import is_current
from kitaru.projections.reuse import ReuseIndex
from kitaru.projections.usage import Usage
from kitaru.projections.waits import PendingWaits
from kitaru.store.keeping import history_dropped
from kitaru.store.log import Head
from tests.projections.oracle import Dump, expected
from tests.projections.streams import SOME_STREAMS, Stream, forgotten, payload

MODELS = (Executions, PendingWaits, Artifacts, ReuseIndex, Usage)
TIER_N = os.environ.get("KITARU_TIER") in ("N", "R")


def often(share: float) -> Callable[[Any], Any]:
    """That share of the tier's random stores."""

    def counted(test: Any) -> Any:
        test = settings(max_examples=round(share * (100_000 if TIER_N else 2_000)), deadline=None)(test)
        return pytest.mark.crash(pytest.mark.timeout(7200)(test)) if TIER_N else test

    return counted


class Models:
    """The real projectors on a database of their own."""

    def __init__(self, prefix: str = "") -> None:
        self.db = sqlite3.connect(":memory:")
        self.models = [model(prefix) for model in MODELS]
        self.versions: dict[int, int] = {}
        self.states: dict[int, ExecutionState] = {}
        for model in self.models:
            model.create(self.execute, 1)

    def execute(self, sql: str, parameters: Sequence[object]) -> sqlite3.Cursor:
        return self.db.execute(sql, tuple(parameters))

    def apply(self, number: int, batch: Stream) -> None:
        state = self.states.get(number, ABSENT)
        numbered = list(enumerate(batch, state.version + 1))
        for event in batch:
            state = evolve(state, event)  # type: ignore[arg-type]
        self.states[number] = state
        for model in self.models:
            model.apply(self.execute, Head(number, f"exec-{number}", b"", state), numbered)

    def remove(self, number: int) -> None:
        for model in self.models:
            model.remove(self.execute, number, f"exec-{number}")

    def dump(self) -> Dump:
        tables = [table for model in self.models for table in model.tables]
        return {
            table.removeprefix("shadow_"): sorted(self.db.execute(f"SELECT * FROM {table}").fetchall(), key=repr)
            for table in tables
        }


def apply_interleaved(models: Models, found: dict[int, Stream], cuts: list[tuple[int, int]]) -> None:
    """The streams in batches: each cut is (which stream, how many of its events); what is left follows."""
    at = dict.fromkeys(found, 0)
    for choice, size in cuts:
        number = list(found)[choice % len(found)]
        batch = found[number][at[number] : at[number] + size]
        at[number] += size
        if batch:
            models.apply(number, batch)
    for number, stream in found.items():
        if stream[at[number] :]:
            models.apply(number, stream[at[number] :])


CUTS = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 5)), max_size=30)


@often(0.45)
@given(SOME_STREAMS, CUTS)
def test_rows_are_the_fold_under_any_batch_split(found: dict[int, Stream], cuts: list[tuple[int, int]]) -> None:
    models = Models()
    apply_interleaved(models, found, cuts)
    assert models.dump() == expected(found)


@often(0.45)
@given(SOME_STREAMS, CUTS)
def test_a_rebuild_gives_the_same_rows_though_erased_bytes_are_gone(
    found: dict[int, Stream], cuts: list[tuple[int, int]]
) -> None:
    live, rebuilt = Models(), Models("shadow_")
    apply_interleaved(live, found, cuts)
    for number, stream in reversed(found.items()):
        rebuilt.apply(number, forgotten(stream))
    assert rebuilt.dump() == live.dump()


@often(0.1)
@given(SOME_STREAMS, st.integers(0, 2))
def test_removing_an_execution_leaves_the_rows_of_the_others(found: dict[int, Stream], which: int) -> None:
    models = Models()
    apply_interleaved(models, found, [])
    gone = list(found)[which % len(found)]
    models.remove(gone)
    assert models.dump() == expected({number: stream for number, stream in found.items() if number != gone})


def started(at: int = 0) -> e.ExecutionStarted:
    return e.ExecutionStarted(
        at=at, flow_id="id-f", flow_name="f", project="default", stack="local", inputs=payload({}),
        target=e.Target(file="/f.py", qualname="f"), options=e.FlowOptions(),
    )  # fmt: skip


def test_a_checkpoint_costs_two_updates() -> None:
    models = Models()
    models.apply(1, [started()])
    seen: list[str] = []
    models.db.set_trace_callback(lambda sql: seen.append(sql.split()[0]))
    models.apply(1, [e.AttemptStarted(at=1, call=1, attempt=1, invocation_id="c", name="c", input_digest="0")])
    models.apply(1, [e.CheckpointCompleted(at=2, call=1, attempt=1, output=payload(1))])
    assert sorted(sql for sql in seen if sql != "BEGIN") == ["UPDATE", "UPDATE"]


def test_the_listing_knows_the_versions_of_the_read_models() -> None:
    db = sqlite3.connect(":memory:")
    db.execute("CREATE TABLE meta (key TEXT, value TEXT)")
    facts = [(f"projection:{model('').name}", str(model("").version)) for model in MODELS]
    db.executemany("INSERT INTO meta VALUES (?, ?)", facts)
    assert set(MODELS) == set(projectors())
    assert is_current(lambda sql, parameters: db.execute(sql, tuple(parameters)).fetchall())
    db.execute("UPDATE meta SET value = '0' WHERE key = 'projection:llm_usage'")
    assert not is_current(lambda sql, parameters: db.execute(sql, tuple(parameters)).fetchall())


def used(number: int) -> e.LLMUsageRecorded:
    """The record of one of many tries, of one of three models."""
    figures = UsageFigures(model=f"m{number % 3}", input_tokens=number, total_tokens=number, actual_cost=number)
    return e.LLMUsageRecorded(at=2, call=1, attempt=1, record_id=str(number), record=payload({}), figures=figures)


def test_a_usage_record_costs_one_statement_of_one_row_after_ten_thousand_of_them() -> None:
    models = Models()
    attempt = e.AttemptStarted(at=1, call=1, attempt=1, invocation_id="c", name="c", input_digest="0")
    models.apply(1, [started(), attempt, *map(used, range(10_000))])
    seen: list[str] = []
    models.db.set_trace_callback(seen.append)
    before = models.db.total_changes
    models.models[MODELS.index(Usage)].apply(models.execute, Head(1, "exec-1", b"", ABSENT), [(10_003, used(10_000))])
    models.db.set_trace_callback(None)
    assert [sql.split()[0] for sql in seen if sql != "BEGIN"] == ["INSERT"]
    assert models.db.total_changes - before == 1
    columns = "usage_record_count, total_tokens, display_cost_usd, models"
    assert models.db.execute(f"SELECT {columns} FROM llm_usage").fetchall() == [
        (10_001, 50_005_000, 50_005_000, '["m0","m1","m2"]')
    ]


def test_events_without_usage_cost_the_usage_model_nothing() -> None:
    models = Models()
    seen: list[str] = []
    models.db.set_trace_callback(seen.append)
    attempt = e.AttemptStarted(at=1, call=1, attempt=1, invocation_id="c", name="c", input_digest="0")
    batch = list(enumerate([started(), attempt, e.CheckpointCompleted(at=2, call=1, attempt=1, output=payload(1))], 1))
    models.models[MODELS.index(Usage)].apply(models.execute, Head(1, "exec-1", b"", ABSENT), batch)
    assert seen == []


def test_a_sum_stops_before_it_overflows() -> None:
    models = Models()
    most = UsageFigures(total_tokens=2 * 10**12, actual_cost=10**16)
    event = e.LLMUsageRecorded(at=2, call=1, attempt=1, record_id="r", record=payload({}), figures=most)
    models.apply(1, [started(), *[event] * 1000])
    rows = models.db.execute("SELECT actual_cost_usd, typeof(actual_cost_usd), total_tokens FROM llm_usage").fetchall()
    assert rows == [(2**62, "integer", 2 * 10**15)]


def test_no_row_says_that_an_execution_ended_before_it_started() -> None:
    models = Models()
    models.apply(1, [started(at=100), e.ExecutionCompleted(at=40, output=payload(1))])
    assert models.db.execute("SELECT started_at, ended_at FROM executions").fetchall() == [(100, 100)]


def test_metadata_past_the_inline_limit_is_left_out_as_it_would_be_in_a_rebuild() -> None:
    models = Models()
    models.apply(1, [started(), e.MetadataLogged(at=1, key="k", values=payload({"big": "x" * 20_000}))])
    assert models.dump()["execution_metadata"] == []


def test_a_hot_update_touches_no_index() -> None:
    """A checkpoint's two updates set no column that an index holds."""
    models = Models()
    names = [row[0] for row in models.db.execute("SELECT name FROM sqlite_master WHERE type = 'index' AND name LIKE '%_g1'")]
    indexed = {row[2] for name in names for row in models.db.execute(f"PRAGMA index_info({name})")}
    assert not indexed & {"version", "checkpoint_count", "attempt_count", "artifact_count"}


@often(0.1)
@given(SOME_STREAMS, st.booleans())
def test_a_dropped_history_gives_the_same_rows_live_and_rebuilt(found: dict[int, Stream], also_later: bool) -> None:
    """Lists and counts stay: of the executions' rows nothing changes but the version and what was said of a failure."""
    live, rebuilt = Models(), Models("shadow_")
    finished: list[int] = []
    for number, stream in found.items():
        live.apply(number, stream)
        state = live.states[number]
        if state.status is None or not state.status.is_finished:
            rebuilt.apply(number, stream)
            continue
        finished.append(number)
        before = live.dump()
        event = history_dropped(Head(number, f"exec-{number}", b"d" * 32, state), live.models, live.execute, "me", 9)
        assert event is not None
        rest: Stream = [event]
        if also_later:
            rest.append(e.TagsChanged(at=10, by="me", add=("late",), remove=("red",)))
        live.apply(number, rest[:1])
        assert counted(live.dump(), number) == counted(before, number)
        live.apply(number, rest[1:])
        rebuilt.states[number] = ABSENT._replace(version=event.through)
        rebuilt.apply(number, rest)
    assert rebuilt.dump() == live.dump()


def counted(dump: Dump, number: int) -> list[Any]:
    """What lists, filters and statistics of executions read of one."""
    tables = [
        table for table in dump if table not in ("artifacts", "reuse", "pending_waits", "executions", "execution_details")
    ]
    rows: list[Any] = [row for row in dump["executions"] if row[0] == number]
    details: list[Any] = [row for row in dump["execution_details"] if row[0] == number]
    return [
        *[(*row[:2], *row[3:]) for row in rows],  # without the version
        *[row[:6] for row in details],
        *[(table, row) for table in tables for row in dump[table]],
    ]
