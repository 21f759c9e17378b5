"""Export: what is in the files, against the fold of each execution's own events; and what later exports change."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import takewhile
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kitaru.analytics import generations
from kitaru.analytics.build import build
from kitaru.analytics.export.manifest import bucket_of, numbers_of
from kitaru.analytics.export.run import export as run_export
from kitaru.analytics.export.run import make_wanted
from kitaru.client import KitaruClient
from kitaru.compose import close_logs, open_log, rebuild_store
from kitaru.domain import events as e
from kitaru.domain.errors import KitaruUsageError
from kitaru.domain.usage import Totals, UsageRecord, figures_of, normalised
from kitaru.projections.detail import Call, Detail, Wait
from kitaru.settings import StoreChoice
from kitaru.store.log import EventLog, Head
from kitaru.testing.events import append
from tests.analytics.exporting import TABLES, export, files_of, ids_of, record, rows_of
from tests.analytics.filling import SECOND, end, fail, log_metadata, payload, run
from tests.projections.streams import streams

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.fixture
def log(folder: str) -> Iterator[EventLog]:
    yield open_log(StoreChoice(folder, "of the test"))
    close_logs()


@pytest.fixture
def client(log: EventLog) -> Iterator[KitaruClient]:
    with KitaruClient(log.location) as found:
        yield found


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "out"


def moment(at: int | None) -> datetime | None:
    return None if at is None else EPOCH + timedelta(microseconds=at)


def usage(cost: dict[str, object] | None = None, **more: object) -> e.LLMUsageRecorded:
    given = {
        "record_id": "r", "event_id": "1", "provider": "p", "model": "m", "latency_ms": 1.5,
        "usage": {"input_tokens": 3, "output_tokens": 4}, "cost": cost or {"estimated_cost_usd": "0.1234567891"}, **more,
    }  # fmt: skip
    record = UsageRecord.model_validate(normalised(given))
    stored = payload(record.model_dump(mode="json"))
    return e.LLMUsageRecorded(at=5, call=1, attempt=1, record_id="r", record=stored, figures=figures_of(record))


def attempt(call: int = 1, at: int = 2) -> e.AttemptStarted:
    return e.AttemptStarted(at=at, call=call, attempt=1, invocation_id=f"step_{call}", name="step", input_digest="00")


def before_erasing(stream: list[e.EventBase]) -> list[e.EventBase]:
    return list(takewhile(lambda event: not isinstance(event, e.PayloadErased), stream))


# --- what is in the files -------------------------------------------------------------------------------------------------


def calls_expected(exec_id: str, call: Call) -> tuple[object, ...]:
    failure = call.failure
    return (
        f"{exec_id}.c{call.call}", call.name, call.status, moment(call.started_at), moment(call.ended_at),
        len(call.attempts), call.original_call_id, None if failure is None else failure.exception_type, call.metadata,
    )  # fmt: skip


def attempts_expected(exec_id: str, call: Call) -> list[tuple[object, ...]]:
    return [
        (f"{exec_id}.c{call.call}.{each.number}", each.status, moment(each.started_at), moment(each.ended_at),
            None if each.failure is None else each.failure.exception_type)
        for each in call.attempts
    ]  # fmt: skip


def waits_expected(exec_id: str, wait: Wait) -> tuple[object, ...]:
    ident = f"{exec_id}.w{wait.opened.wait}"
    return (ident, wait.opened.kind, moment(wait.opened.at), wait.outcome, moment(wait.closed_at), wait.by)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    found=st.lists(streams().filter(lambda s: not any(isinstance(x, e.PayloadErased) for x in s)), min_size=1, max_size=6)
)
def test_calls_attempts_and_waits_are_the_fold_of_the_events(
    found: list[list[e.EventBase]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("streams")
    log = open_log(StoreChoice(str(place / "store"), "of the test"))
    heads = [record(log, stream) for stream in found]
    details = {
        head.exec_id: Detail(lambda given: given.data).add_all(stream) for head, stream in zip(heads, found, strict=True)
    }
    with KitaruClient(log.location) as client:
        client.export(place / "out")
    close_logs()
    calls = [calls_expected(exec_id, call) for exec_id, detail in details.items() for call in detail.calls.values()]
    names = ("call_id", "name", "checkpoint_status", "started_at", "ended_at", "attempt_count", "original_call_id",
        "failure_type", "metadata")  # fmt: skip
    shown = [
        (*(row[name] for name in names[:-1]), json.loads(row["metadata"] or "{}"))
        for row in rows_of(place / "out", "checkpoints")
    ]
    assert sorted(shown, key=repr) == sorted(calls, key=repr)
    tries = [
        each for exec_id, detail in details.items() for call in detail.calls.values()
        for each in attempts_expected(exec_id, call)
    ]  # fmt: skip
    names = ("attempt_id", "attempt_status", "started_at", "ended_at", "failure_type")
    shown = [tuple(row[name] for name in names) for row in rows_of(place / "out", "attempts")]
    assert sorted(shown, key=repr) == sorted(tries, key=repr)
    waits = [waits_expected(exec_id, wait) for exec_id, detail in details.items() for wait in detail.waits.values()]
    names = ("wait_id", "kind", "opened_at", "outcome", "closed_at", "closed_by")
    shown = [tuple(row[name] for name in names) for row in rows_of(place / "out", "waits")]
    assert sorted(shown, key=repr) == sorted(waits, key=repr)


def test_executions_are_what_the_client_lists(log: EventLog, client: KitaruClient, target: Path) -> None:
    head = run(log, "one", at=7, tags=("b", "a"), metadata={"tier": "x", "deep": {"n": [1]}}, stack="pool")
    fail(log, run(log, "two", at=8, seconds=None), 9)
    export(client, target)
    shown = {row["exec_id"]: row for row in rows_of(target, "executions")}
    for listed in client.executions.list():
        row = shown[listed.exec_id]
        assert (row["flow_id"], row["flow_name"], row["stack_id"]) == (listed.flow_id, listed.flow_name, listed.stack_id)
        assert (row["status"], row["started_at"], row["ended_at"]) == (listed.status, listed.started_at, listed.ended_at)
        assert (row["duration"], tuple(row["tags"])) == (listed.duration, listed.tags)
        assert json.loads(row["metadata"] or "{}") == listed.metadata
    assert shown[head.exec_id]["metadata"] == '{"tier":"x","deep":{"n":[1]}}'


def test_usage_records_are_counted_once_with_exact_costs(log: EventLog, client: KitaruClient, target: Path) -> None:
    head = run(log, seconds=None)
    append(log, head, attempt(), usage(), usage(), usage(event_id="2", cost={"actual_cost_usd": 1}))
    export(client, target)
    rows = rows_of(target, "llm_usage")
    costs = [(row["actual_cost_usd"], row["display_cost_usd"], row["total_tokens"]) for row in rows]
    assert costs == [(None, Decimal("0.1234567891"), 7), (Decimal(1), Decimal(1), 7)]


def test_the_flat_keys_of_usage_are_columns(log: EventLog, client: KitaruClient, target: Path) -> None:
    append(log, run(log, seconds=None), attempt(), usage(), usage(event_id="2", cost={"actual_cost_usd": 1}))
    run(log)
    export(client, target, tables="executions")
    rows = rows_of(target, "executions")
    assert {
        name.removeprefix("kitaru_llm_").removesuffix("_v1") for name in rows[0] if name.startswith("kitaru_llm")
    } == set(Totals._fields)
    assert [(row["kitaru_llm_display_cost_usd_v1"], row["kitaru_llm_total_tokens_v1"]) for row in rows] == [
        (Decimal("1.1234567891"), 14),
        (None, None),
    ]


def test_a_record_too_large_to_stand_in_its_row_is_exported(log: EventLog, client: KitaruClient, target: Path) -> None:
    append(log, run(log, seconds=None), attempt(), usage(call_name="asks", checkpoint_name="x" * 20_000))
    export(client, target)
    assert [row["call_name"] for row in rows_of(target, "llm_usage")] == ["asks"]


def test_every_event_is_exported_as_it_is_stored(log: EventLog, client: KitaruClient, target: Path) -> None:
    head = run(log, metadata={"secret": "canary"})
    export(client, target)
    rows = rows_of(target, "events")
    read = list(log.read(head.exec_id))
    assert [(row["version"], row["position"], row["type"], row["event_id"]) for row in rows] == [
        (each.version, each.position, type(each.event).__name__, each.event_id) for each in read
    ]
    assert "canary" not in str(rows)


def test_times_are_utc_and_costs_are_decimals(log: EventLog, client: KitaruClient, target: Path) -> None:
    run(log)
    export(client, target)
    schema: Any = pq.read_schema(next((target / "executions").glob("*.parquet")))
    costs: Any = pq.read_schema(next((target / "llm_usage").glob("*.parquet")))
    assert str(schema.field("started_at").type) == "timestamp[us, tz=UTC]"
    assert str(costs.field("actual_cost_usd").type) == "decimal128(20, 10)"


def test_files_are_compressed_by_zstd(log: EventLog, client: KitaruClient, target: Path) -> None:
    run(log)
    export(client, target)
    metadata: Any = pq.read_metadata(next((target / "executions").glob("*.parquet")))
    assert metadata.row_group(0).column(0).compression == "ZSTD"


@pytest.mark.parametrize("partition_by", [[], ["month"], ["status"], ["month", "status"]])
@pytest.mark.parametrize("is_empty", [False, True], ids=["some rows", "no row"])
def test_every_table_has_its_columns_even_without_rows(
    log: EventLog, client: KitaruClient, target: Path, partition_by: list[str], is_empty: bool
) -> None:
    if not is_empty:
        append(log, run(log, seconds=None), attempt(), usage())
    export(client, target, partition_by=partition_by)
    for table in TABLES:
        rows = rows_of(target, table, partitioned=bool(partition_by))
        assert (len(rows) > 0) is (not is_empty and table != "waits"), table
        (file, *_) = (target / table).rglob("*.parquet")
        schema: Any = pq.read_schema(file)
        assert "exec_id" in schema.names


def test_partitions_are_folders_of_the_executions_month_and_status(
    log: EventLog, client: KitaruClient, target: Path
) -> None:
    run(log, at=0)
    append(log, run(log, at=40 * 86_400 * SECOND, seconds=None), attempt())
    export(client, target, partition_by=["status", "month"])
    folders = {str(path.parent.relative_to(target)) for path in target.glob("*/*/*/*.parquet")}
    assert "executions/month=1970-01/status=completed" in folders
    assert "checkpoints/month=1970-02/status=running" in folders
    assert {row["status"] for row in rows_of(target, "executions", partitioned=True)} == {"completed", "running"}


def test_since_and_until_are_of_the_executions_start(log: EventLog, client: KitaruClient, target: Path) -> None:
    heads = [run(log, at=second * SECOND) for second in range(4)]
    export(client, target, since=EPOCH + timedelta(seconds=1), until=EPOCH + timedelta(seconds=3))
    assert ids_of(target) == sorted(head.exec_id for head in heads[1:3])
    assert set(ids_of(target, "events")) == {head.exec_id for head in heads[1:3]}


def test_only_the_clients_project_is_exported(log: EventLog, client: KitaruClient, target: Path) -> None:
    run(log, project="other")
    head = run(log)
    export(client, target)
    assert (ids_of(target), set(ids_of(target, "events"))) == ([head.exec_id], {head.exec_id})


def test_only_the_tables_asked_for_are_made(log: EventLog, client: KitaruClient, target: Path) -> None:
    run(log)
    export(client, target, tables=["waits", "executions"])
    assert sorted(path.name for path in target.iterdir() if not path.name.startswith(".")) == ["executions", "waits"]


@pytest.mark.parametrize("partition_by", ["", "status"])
def test_with_a_base_of_statistics_the_same_is_exported(
    log: EventLog, client: KitaruClient, target: Path, tmp_path: Path, partition_by: str
) -> None:
    heads = [run(log, at=n * SECOND, seconds=None if n % 3 else 1.0, tags=("a",), metadata={"n": n}) for n in range(12)]
    other = run(log, project="other")
    for head in (heads[1], heads[4]):
        append(log, head, attempt(), usage())
    heads[1] = log.head(heads[1].exec_id)
    place = generations.make_place(log.location)
    assert build(log, place, "executions") is not None
    end(log, heads[1], 90 * SECOND)
    log_metadata(log, heads[2], n="another")
    log.delete(heads[3].exec_id)
    run(log, "late")
    export(client, target, tables="executions", since=EPOCH + timedelta(seconds=2), partition_by=partition_by or ())
    generations.forget(log.location)
    alone = tmp_path / "alone"
    export(client, alone, tables="executions", since=EPOCH + timedelta(seconds=2), partition_by=partition_by or ())
    rows = rows_of(target, "executions", partitioned=bool(partition_by))
    assert sorted(rows, key=str) == sorted(rows_of(alone, "executions", partitioned=bool(partition_by)), key=str)
    assert other.exec_id not in ids_of(target)
    assert len(rows) == 9


def test_a_base_that_cannot_be_read_is_done_without(log: EventLog, client: KitaruClient, target: Path) -> None:
    head = run(log)
    place = generations.make_place(log.location)
    made = build(log, place, "executions")
    assert made is not None
    Path(made.path).write_bytes(b"no database")
    export(client, target, tables="executions")
    assert ids_of(target) == [head.exec_id]


def test_a_base_with_other_columns_is_done_without(log: EventLog, client: KitaruClient, target: Path) -> None:
    head = run(log, tags=("a",))
    made = build(log, generations.make_place(log.location), "executions")
    assert made is not None
    with duckdb.connect(made.path) as base:
        base.execute("ALTER TABLE details DROP COLUMN tags")
    export(client, target, tables="executions")
    assert [(row["exec_id"], row["tags"]) for row in rows_of(target, "executions")] == [(head.exec_id, ["a"])]


# --- buckets --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("based", [False, True])
@pytest.mark.parametrize("partition_by", [(), ("status",)])
def test_buckets_that_are_written_side_by_side_hold_what_one_alone_holds(
    log: EventLog, client: KitaruClient, target: Path, tmp_path: Path, partition_by: tuple[str, ...], based: bool
) -> None:
    for number in range(13):
        run(log, f"flow {number}", at=number * SECOND, seconds=None if number % 3 else 1.0, tags=("a",))
    if based:
        assert build(log, generations.make_place(log.location), "executions") is not None
        run(log, "late")
    wanted = make_wanted("default", ["executions"], partition_by, None, None)
    told: list[tuple[int, int]] = []
    (report,) = run_export(log, str(target), wanted, lambda *done: told.append(done), bucket=2)
    export(client, tmp_path / "alone", tables="executions", partition_by=partition_by)
    side_by_side, alone = (
        sorted(rows_of(folder, "executions", partitioned=bool(partition_by)), key=str)
        for folder in (target, tmp_path / "alone")
    )
    assert side_by_side == alone
    assert (report.rows, told) == (len(alone), [(done, 7) for done in range(1, 8)])


def test_who_stops_an_export_of_many_buckets_leaves_nothing_and_nothing_runs_on(log: EventLog, target: Path) -> None:
    for _ in range(9):
        run(log)

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_export(log, str(target), make_wanted("default", ["executions"], (), None, None), stop, bucket=2)
    assert [path.name for path in (target / ".export").iterdir()] == ["lock"]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("kitaru-export")]


# --- the next export ------------------------------------------------------------------------------------------------------


def test_nothing_is_written_when_nothing_changed(log: EventLog, client: KitaruClient, target: Path) -> None:
    run(log)
    export(client, target)
    before = files_of(target)
    report = export(client, target)
    assert (files_of(target), {each.new_files for each in report.values()}) == (before, {0})


def test_new_executions_are_added_and_others_stay(log: EventLog, client: KitaruClient, target: Path) -> None:
    first = run(log)
    export(client, target)
    second = run(log)
    export(client, target)
    assert ids_of(target) == sorted([first.exec_id, second.exec_id])


def test_an_execution_that_went_on_stands_there_once_as_it_is_now(log: EventLog, client: KitaruClient, target: Path) -> None:
    head = run(log, seconds=None)
    export(client, target, partition_by="status")
    end(log, head, 9)
    export(client, target, partition_by="status")
    assert [row["status"] for row in rows_of(target, "executions", partitioned=True)] == ["completed"]
    assert not (target / "executions" / "status=running").exists()


def test_a_deleted_execution_disappears_from_every_table(log: EventLog, client: KitaruClient, target: Path) -> None:
    gone, kept = run(log), run(log)
    export(client, target)
    log.delete(gone.exec_id)
    export(client, target)
    assert {exec_id for table in TABLES for exec_id in ids_of(target, table)} == {kept.exec_id}


def test_a_store_that_was_emptied_leaves_tables_without_rows(log: EventLog, client: KitaruClient, target: Path) -> None:
    head = run(log)
    export(client, target)
    log.delete(head.exec_id)
    export(client, target)
    assert [ids_of(target, table) for table in TABLES] == [[]] * len(TABLES)


def test_erased_values_do_not_stay_in_any_file(log: EventLog, client: KitaruClient, target: Path) -> None:
    head = run(log, seconds=None, metadata={"name": "canary-1"})
    head = append(log, head, attempt(), usage(call_name="canary-2"))
    head = append(log, head, e.MetadataLogged(at=3, call=1, attempt=1, values=payload({"inner": "canary-3"})))
    end(log, log_metadata(log, head, name="canary-4"), 9)
    export(client, target)
    assert "canary" in str([rows_of(target, table) for table in TABLES])
    log.erase(head.exec_id, "me", 10)
    export(client, target)
    assert "canary" not in str([rows_of(target, table) for table in TABLES])
    assert [len(rows_of(target, table)) for table in ("executions", "checkpoints", "llm_usage")] == [1, 1, 1]


def test_an_execution_whose_history_was_dropped_stays_without_its_steps(
    log: EventLog, client: KitaruClient, target: Path
) -> None:
    head = end(log, append(log, run(log, seconds=None, tags=("a",)), attempt()), 9)
    export(client, target)
    assert log.drop_histories([(head.exec_id, head.version)], "me", 10) == [head.exec_id]
    export(client, target)
    assert [row["tags"] for row in rows_of(target, "executions")] == [["a"]]
    assert [len(rows_of(target, table)) for table in ("checkpoints", "attempts", "events")] == [0, 0, 1]


def test_tables_can_be_exported_one_after_the_other(log: EventLog, client: KitaruClient, target: Path) -> None:
    run(log)
    export(client, target, tables="executions")
    run(log)
    export(client, target, tables="events")
    assert (len(ids_of(target)), len(set(ids_of(target, "events")))) == (1, 2)
    export(client, target)
    assert (len(ids_of(target)), len(set(ids_of(target, "events")))) == (2, 2)


def test_another_choice_of_executions_takes_the_place_of_the_one_before(
    log: EventLog, client: KitaruClient, target: Path
) -> None:
    heads = [run(log, at=second * SECOND) for second in range(3)]
    export(client, target, since=EPOCH + timedelta(seconds=2))
    export(client, target)
    assert ids_of(target) == sorted(head.exec_id for head in heads)


def test_a_restored_store_is_exported_anew(log: EventLog, client: KitaruClient, target: Path, tmp_path: Path) -> None:
    from kitaru.compose import backup_store

    run(log)
    backup_store(StoreChoice(log.location, "of the test"), str(tmp_path / "copy"))
    lost = [run(log) for _ in range(2)]
    export(client, target)
    copy = open_log(StoreChoice(str(tmp_path / "copy"), "of the test"))
    kept = [run(copy) for _ in range(3)]
    with KitaruClient(copy.location) as restored:
        export(restored, target)
    found = ids_of(target)
    assert (len(found), {head.exec_id for head in kept} - set(found), {head.exec_id for head in lost} & set(found)) == (
        4, set(), set(),
    )  # fmt: skip


def test_a_store_whose_read_models_were_rebuilt_is_exported_anew(
    log: EventLog, folder: str, client: KitaruClient, target: Path
) -> None:
    run(log)
    export(client, target)
    rebuild_store(StoreChoice(folder, "of the test"))
    assert export(client, target)["executions"].new_files == 1
    assert export(client, target)["executions"].new_files == 0


def test_only_files_of_changed_buckets_are_written(log: EventLog, target: Path) -> None:
    heads = [run(log) for _ in range(5)]
    wanted = make_wanted("default", ["executions"], (), None, None)
    run_export(log, str(target), wanted, bucket=2)
    before = files_of(target)
    log.delete(heads[1].exec_id)
    (report,) = run_export(log, str(target), wanted)
    kept = [name for name, inode in files_of(target).items() if before.get(name) == inode]
    assert (report.new_files, report.files, len(kept), len(ids_of(target))) == (1, 3, 2, 4)


@given(st.integers(1, 10**12), st.integers(1, 10**6))
def test_a_bucket_holds_the_numbers_that_it_says(number: int, size: int) -> None:
    first, last = numbers_of(bucket_of(number, size), size)
    assert first <= number <= last


# --- what is typed --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "word"),
    [
        ({"tables": ["logs"]}, "executions"),
        ({"partition_by": "week"}, "month"),
        ({"since": "2026-02-01", "until": "2026-01-01"}, "after"),
        ({"since": "yesterday"}, "since"),
        ({"tables": "executions; DROP TABLE x"}, "executions"),
    ],
)
def test_what_cannot_be_exported_is_refused_and_nothing_is_made(
    client: KitaruClient, target: Path, asked: dict[str, Any], word: str
) -> None:
    with pytest.raises(KitaruUsageError, match=word):
        client.export(target, **asked)
    assert not target.exists()


def test_progress_is_told_to_the_end(log: EventLog, client: KitaruClient, target: Path) -> None:
    run(log)
    told: list[tuple[int, int]] = []
    client.export(target, progress=lambda done, total: told.append((done, total)))
    assert told == [(done, len(TABLES)) for done in range(1, len(TABLES) + 1)]


def heads_of(log: EventLog, count: int) -> list[Head]:
    return [run(log) for _ in range(count)]


def test_exporting_changes_no_byte_of_the_store(log: EventLog, client: KitaruClient, target: Path) -> None:
    heads_of(log, 3)
    close_logs()
    before = {path.name: path.read_bytes() for path in Path(log.location).iterdir() if path.suffix == ".db"}
    with KitaruClient(log.location) as found:
        export(found, target)
    assert {path.name: path.read_bytes() for path in Path(log.location).iterdir() if path.suffix == ".db"} == before
