"""Keeping a store small, and forgetting for good (R29)."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

import kitaru
from kitaru import checkpoint, flow
from kitaru.analytics import generations
from kitaru.analytics.build import build
from kitaru.analytics.generations import FAMILIES, Family, make_place
from kitaru.client import KitaruClient
from kitaru.client.upkeep import Kept, collect
from kitaru.compose import close_logs, open_log, projectors, verify_store
from kitaru.domain import events as e
from kitaru.domain.payload import Payload
from kitaru.domain.usage import UsageFigures
from kitaru.runtime import operations, process, recovery
from kitaru.settings import Configuration, StoreChoice, configured
from kitaru.store.lines import LogLine
from kitaru.store.log import Reads
from kitaru.store.sqlite.log import SQLiteLog
from kitaru.testing import append, call, completed, start

CANARY = "canary-7c1f0a"
NOW = 2**62


@pytest.fixture
def choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StoreChoice]:
    monkeypatch.setenv("KITARU_CONFIG_DIR", str(tmp_path / "config"))
    kitaru.configure(store=tmp_path / "store", durability="os")
    yield StoreChoice(str(tmp_path / "store"), "of the test")
    process.join_all()
    close_logs()
    fresh = Configuration()
    for name in Configuration.__slots__:
        setattr(configured, name, getattr(fresh, name))


@pytest.fixture
def client(choice: StoreChoice) -> Iterator[KitaruClient]:
    with KitaruClient(choice.location) as opened:
        yield opened


@pytest.fixture
def log(choice: StoreChoice) -> SQLiteLog:
    opened = open_log(choice)
    assert isinstance(opened, SQLiteLog)
    return opened


def spend(text: str) -> None:
    """Record what an LLM call used, with the text in the record."""
    kitaru.record_usage(
        {
            "adapter": "kitaru.llm", "surface": "direct_llm", "status": "completed", "billing_effect": "incurred",
            "cache_status": "executed", "provider": "openai", "model": "small", "call_name": text[:100],
            "usage": {"input_tokens": 100, "output_tokens": 20, "raw": {"said": text[:1000]}},
            "cost": {"actual_cost_usd": 0.25, "source": "provider_reported", "source_label": text[:100]},
        }
    )  # fmt: skip


@checkpoint(cache=True)
def fetch(text: str) -> str:
    kitaru.log(seen=text[:1000], deep={"in": [text[:1000]]})
    kitaru.save("artifact", {"of": text})
    print("printed", text)
    spend(text)
    return text.upper() + text


@flow(tags=["nightly"])
def research(text: str) -> str:
    kitaru.log(customer=text[:1000], score=3)
    print("the body", text)
    fetch(text)
    return text * 2


@flow
def breaks(text: str) -> str:
    fetch(text)
    raise ValueError(f"it broke at {text}")


@flow
def asks(text: str) -> str:
    answered = kitaru.wait(name="ask", question=f"what of {text}?", schema=str, metadata={"about": text}, timeout=0)
    return answered + text


def run(started: Any, text: str = "x") -> str:
    handle = started.run(text)
    process.join_all()
    return handle.exec_id


def tables(folder: str) -> dict[str, list[str]]:
    """Every row of the read models."""
    with contextlib.closing(sqlite3.connect(f"file:{folder}/kitaru.db?mode=ro", uri=True)) as db:
        names = [table for make in projectors() for table in make("").tables]
        return {name: sorted(repr(row) for row in db.execute(f"SELECT * FROM {name}")) for name in names}


# --- retention that keeps the aggregates -------------------------------------------------------------------------------


def test_counts_lists_and_statistics_stay_when_histories_are_dropped(client: KitaruClient, choice: StoreChoice) -> None:
    for number in range(6):
        run(research.options(metadata={"tier": number % 2}), f"text {number}")
    failed = run(breaks)
    asked = [
        {"group_by": ["status", "flow"], "metrics": ["d:duration:sum", "s:step_count:sum", "c:cached_step_count:sum"]},
        {"group_by": ["tag"], "metrics": ["o:output_artifact_count:sum"]},
        {"group_by": ["metadata:tier"], "metrics": ["score:metadata:score:avg"]},
        {"group_by": ["time:day"], "metrics": ["tokens:llm_tokens:sum", "cost:llm_cost:sum"]},
    ]
    before = ([client.executions.statistics(**each) for each in asked], listed(client))  # type: ignore[arg-type]
    assert [each["llm_usage_summary"]["usage_record_count"] for each in before[1]] == [1] * 7
    freed = collect(choice, Kept(NOW))
    assert freed.executions == 7
    assert ([client.executions.statistics(**each) for each in asked], listed(client)) == before  # type: ignore[arg-type]
    with KitaruClient(choice.location) as fresh:
        assert [fresh.executions.statistics(**each) for each in asked] == before[0]  # type: ignore[arg-type]
    assert client.executions.list(where={"tier": 1}, tags=["nightly"], flow="research") != []
    shown = client.executions.get(failed)
    assert shown.failure is not None
    assert (shown.failure.exception_type, shown.failure.message) == ("builtins.ValueError", "(erased)")


def listed(client: KitaruClient) -> list[dict[str, Any]]:
    """All that a list shows, but the version and what was said of a failure."""
    return [found.model_dump(exclude={"version", "failure"}) for found in client.executions.list()]


def test_a_rebuild_gives_the_same_rows_without_the_histories(log: SQLiteLog, choice: StoreChoice) -> None:
    ids = [run(research, "a"), run(breaks, "b"), run(research, "a")]
    operations.cancel(log, run(asks))
    collect(choice, Kept(NOW))
    KitaruClient(choice.location).executions.tag(ids[0], add=["late"], remove=["nightly"])
    before = tables(choice.location)
    assert len(before["executions"]) == 4
    assert len(before["llm_usage"]) == 3
    assert before["artifacts"] == before["reuse"] == []
    log.rebuild()
    assert tables(choice.location) == before
    assert verify_store(choice).problems == ()


def test_a_history_that_is_dropped_during_a_rebuild_is_in_it(log: SQLiteLog, choice: StoreChoice) -> None:
    exec_id = run(research)
    kept = run(breaks)

    def drop(done: int, total: int) -> None:
        log.drop_histories([(exec_id, log.head(exec_id).version)], "me", 9)

    log.rebuild(drop)
    before = tables(choice.location)
    log.rebuild()
    assert tables(choice.location) == before
    assert log.head(kept).version > 3
    assert verify_store(choice).problems == ()


def test_only_what_ended_before_is_dropped(log: SQLiteLog, client: KitaruClient, choice: StoreChoice) -> None:
    waiting = asks.run("x")
    process.join_all()
    old = run(research)
    ended = client.executions.get(old).ended_at
    assert ended is not None
    young = run(research)
    freed = collect(choice, Kept(int(ended.timestamp() * 1_000_000) + 1))
    assert freed.executions == 1
    assert [len(client.executions.events(each)) for each in (old,)] == [1]
    assert len(client.executions.events(young)) > 3
    assert len(client.executions.events(waiting.exec_id)) > 2
    assert collect(choice, Kept(int(ended.timestamp() * 1_000_000) + 1)).executions == 0, "it is dropped once"


def test_what_a_replay_under_way_takes_over_stays(log: SQLiteLog, client: KitaruClient, choice: StoreChoice) -> None:
    exec_id = asks.run("x").exec_id
    process.join_all()
    operations.answer(log, exec_id, "ask", "yes", "me")
    recovery.take_over(log, exec_id, asks)
    process.join_all()
    head = log.head(exec_id)
    assert head.state.status == "completed"
    run(research)
    replay = research.replay(client.executions.latest("research").exec_id, from_="fetch", text="y")
    replay.wait()
    process.join_all()
    assert collect(choice, Kept(NOW)).executions == 3


def test_what_needs_the_events_says_that_they_are_gone(log: SQLiteLog, client: KitaruClient, choice: StoreChoice) -> None:
    exec_id, failed = run(research.options(idempotency_key="k")), run(breaks)
    collect(choice, Kept(NOW))
    found = client.executions.get(exec_id)
    assert (found.checkpoints, found.checkpoint_count, found.status) == (None, 1, "completed")
    assert found.status_reason is not None
    assert found.status_reason.startswith("its events and values were dropped on ")
    assert client.artifacts.list(exec_id) == []
    assert client.executions.logs(exec_id) == []
    assert [entry.message for entry in client.executions.logs(exec_id, source="runner")] != []
    with pytest.raises(kitaru.KitaruStateError, match="dropped"):
        client.executions.replay(exec_id, from_="fetch")
    with pytest.raises(kitaru.KitaruStateError):
        client.executions.retry(failed)
    with pytest.raises(kitaru.KitaruStateError):
        client.executions.resume(exec_id)
    with pytest.raises(kitaru.KitaruStateError, match="dropped"):
        research.options(idempotency_key="k").run("x")
    with pytest.raises(kitaru.KitaruRuntimeError):
        kitaru.load(exec_id, "artifact")
    client.executions.delete(exec_id)
    assert verify_store(choice).problems == ()


def test_what_does_not_fit_beside_an_event_keeps_its_history(
    log: SQLiteLog, client: KitaruClient, choice: StoreChoice
) -> None:
    @flow
    def much() -> int:
        for number in range(3):
            kitaru.log(**{f"key {number}": "m" * 7000})
        return 1

    handle = much.run()
    handle.wait()
    process.join_all()
    assert collect(choice, Kept(NOW)).executions == 0
    assert len(client.executions.events(handle.exec_id)) > 3


def test_a_dry_run_changes_nothing(log: SQLiteLog, client: KitaruClient, choice: StoreChoice) -> None:
    exec_id = run(research)
    log.lines.add(LogLine(1, 1, "step", "INFO", "old"))
    log.lines.flush()
    position = log.last_position()
    would = collect(choice, Kept(NOW), dry_run=True)
    assert (would.executions, would.log_lines) == (1, 1)
    assert log.last_position() == position
    assert len(client.executions.events(exec_id)) > 3


# --- logs, leftovers, pages --------------------------------------------------------------------------------------------


def test_old_log_lines_go_and_the_newest_stay(log: SQLiteLog, choice: StoreChoice) -> None:
    number = start(log).number
    for age in range(10):
        log.lines.add(LogLine(number, age, "step", "INFO", "m" * 100))
    for n in range(20):
        log.lines.add(LogLine(number, NOW, "step", "INFO", f"{n:0100}"))
    log.lines.flush()
    assert collect(choice, Kept(log_days=1)).log_lines == 10
    assert collect(choice, Kept(log_megabytes=0.001)).log_lines == 16
    assert log.query("SELECT cast(message AS INTEGER) FROM logs ORDER BY id") == [(n,) for n in range(16, 20)]
    assert collect(choice, Kept(log_days=1)).log_lines == 0


def test_values_that_nothing_uses_and_leftover_files_go(log: SQLiteLog, choice: StoreChoice) -> None:
    append(log, start(log), completed(b"v" * 20_000))
    with contextlib.closing(sqlite3.connect(choice.location + "/kitaru.db")) as db:
        db.execute("INSERT INTO blobs (digest, data) VALUES ('d', x'00')")
        db.commit()
    runners = Path(choice.location) / "runners"
    runners.mkdir(exist_ok=True)
    dead = runners / "00000000-0000-0000-0000-000000000000.lock"
    dead.write_text("30\n")
    (runners / "a name of somebody's own").write_text("stays")
    log.leases.acquire()
    dead.write_text("30\n")
    freed = collect(choice, Kept())
    assert (freed.values, freed.files) == (1, 1)
    assert sorted(path.name for path in runners.iterdir() if path.suffix != ".lock") == ["a name of somebody's own"]
    assert log.leases.is_alive(log.leases.acquire())


def test_a_vacuum_gives_pages_back_while_the_store_is_open(log: SQLiteLog, choice: StoreChoice) -> None:
    for _ in range(30):
        append(log, start(log), *call(1, b"x" * 15_000), completed(b"y" * 15_000))
    freed = collect(choice, Kept(NOW), vacuum=True)
    assert freed.executions == 30
    assert freed.bytes_after < freed.bytes_before / 4
    assert append(log, start(log), *call(1)).version == 4
    assert verify_store(choice, None).problems == ()


# --- R29: nothing of what was erased is in any file --------------------------------------------------------------------


def sing(log: SQLiteLog, choice: StoreChoice) -> list[str]:
    """Executions with the canary in everything that a user can say; their ids."""
    sung = [
        run(research.options(tags=[CANARY], metadata={CANARY: CANARY}, idempotency_key=CANARY), CANARY * 3),
        run(research, CANARY * 3000),
        run(breaks, CANARY),
        run(asks, CANARY),
    ]
    operations.answer(log, sung[3], "ask", CANARY, CANARY)
    recovery.take_over(log, sung[3], asks)
    process.join_all()
    record, figures = Payload.of(f'"{CANARY}"'.encode(), "k1"), UsageFigures(model=CANARY, warnings=(CANARY,))
    usage = e.LLMUsageRecorded(at=2, call=1, attempt=1, record_id="r", record=record, figures=figures)
    one, two = call(1)
    sung.append(append(log, start(log), one, usage, two, completed(CANARY.encode())).exec_id)
    log.lines.flush()
    statistics = Path(choice.location) / "statistics"
    statistics.mkdir()
    (statistics / "executions-1.duckdb").write_text(CANARY)
    return sung


def test_a_deleted_execution_is_in_no_file(log: SQLiteLog, client: KitaruClient, choice: StoreChoice) -> None:
    shared = run(research, "stays")
    sung = sing(log, choice)
    assert log.query("SELECT count(*) FROM logs WHERE message LIKE '%' || ? || '%'", (CANARY,)) != [(0,)]
    assert log.query("SELECT count(*) FROM llm_usage WHERE models LIKE '%' || ? || '%'", (CANARY,)) == [(1,)]
    assert recorded_with(client, CANARY) == 3
    for exec_id in sung:
        client.executions.delete(exec_id)
    client.close()
    assert copied(choice) == []
    assert verify_store(choice).problems == ()
    assert client.executions.get(shared).status == "completed"


def recorded_with(client: KitaruClient, text: str) -> int:
    """How many executions have a usage record that holds a text."""
    ids = [found.exec_id for found in client.executions.list()]
    records = [client.executions.get(exec_id).llm_usage_records or () for exec_id in ids]
    return sum(any(text in record.model_dump_json() for record in each) for each in records)


def test_what_a_killed_delete_left_in_the_statistics_goes_with_gc(log: SQLiteLog, choice: StoreChoice) -> None:
    gone = run(research, "x")
    place = generations.make_place(choice.location)
    assert build(log, place, "executions") is not None
    collect(choice, Kept())
    assert len(generations.listed(place)) == 1, "nothing was deleted"
    log.delete(gone)
    collect(choice, Kept())
    assert generations.listed(place) == []


def copied(choice: StoreChoice) -> list[str]:
    """What another process finds in the files while the store is open here: reading them here would drop our locks."""
    import subprocess
    import sys

    program = (
        "import pathlib, sys\n"
        "word = sys.argv[2].encode()\n"
        "for path in pathlib.Path(sys.argv[1]).rglob('*'):\n"
        "    if path.is_file():\n"
        "        data = path.read_bytes()\n"
        "        if word in data or word.upper() in data: print(path.name)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, choice.location, CANARY], capture_output=True, text=True, check=True
    )
    return ran.stdout.split()


def sums_of(client: KitaruClient, exec_id: str) -> tuple[int, int, int]:
    """Usage records that are shown of an execution, and what its sums say of them: erasing leaves those."""
    found = client.executions.get(exec_id)
    summary = found.llm_usage_summary
    assert summary is not None
    return len(found.llm_usage_records or ()), summary.usage_record_count, summary.total_tokens


def test_erased_values_are_in_no_file(log: SQLiteLog, client: KitaruClient, choice: StoreChoice) -> None:
    sung = [run(research, CANARY * 3), run(research, CANARY * 3000), run(breaks, CANARY)]
    assert [log.head(exec_id).state.status for exec_id in sung] == ["completed", "completed", "failed"]
    assert recorded_with(client, CANARY) == 3
    for exec_id in sung:
        log.erase(exec_id, "me", 9)
    client.close()
    assert copied(choice) == []
    with KitaruClient(choice.location) as fresh:
        assert [sums_of(fresh, exec_id) for exec_id in sung] == [(0, 1, 120)] * 3
    assert verify_store(choice).problems == ()


def test_dropped_histories_leave_no_value_and_no_line(log: SQLiteLog, choice: StoreChoice) -> None:
    run(breaks, CANARY)
    run(asks, CANARY)
    operations.answer(log, log.find_ids("")[-1], "ask", CANARY, "me")
    recovery.take_over(log, log.find_ids("")[-1], asks)
    process.join_all()
    assert log.query("SELECT count(*) FROM llm_usage") == [(1,)]
    assert collect(choice, Kept(NOW)).executions == 2
    assert copied(choice) == []
    assert verify_store(choice).problems == ()


def test_deleting_says_when_a_reader_keeps_the_bytes_and_the_next_collection_takes_them(
    log: SQLiteLog, client: KitaruClient, choice: StoreChoice
) -> None:
    exec_id = run(research, CANARY)
    with log.snapshot() as moment:
        assert moment.head(exec_id).version > 0
        assert client.executions.delete(exec_id) is False
        assert collect(choice, Kept()).in_wal
    assert not collect(choice, Kept()).in_wal
    assert copied(choice) == []
    assert client.executions.delete(run(research)) is True


class Watched:
    """The reads of a store, with something that happens once so many moments have been read."""

    def __init__(self, reads: Reads, after: int, happens: Callable[[], object]) -> None:
        self._reads = reads
        self._left = after
        self._happens = happens

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reads, name)

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[Reads]:
        with self._reads.snapshot() as moment:
            yield moment
        self._left -= 1
        if self._left == 0:
            self._happens()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("moments", range(1, 5))
def test_what_is_deleted_while_statistics_are_built_is_in_no_file(
    log: SQLiteLog, client: KitaruClient, choice: StoreChoice, moments: int, family: Family
) -> None:
    run(research, "stays")
    exec_id = run(research.options(metadata={CANARY: CANARY}, tags=[CANARY]), CANARY)
    place = make_place(choice.location)
    watched = cast("Reads", Watched(log, moments, lambda: client.executions.delete(exec_id)))
    with contextlib.suppress(FileNotFoundError):  # its file may be taken from it before it has a name
        build(watched, place, family)
    assert copied(choice) == []
    assert build(log, place, family) is not None


def test_what_a_killed_builder_left_goes_with_what_is_deleted(client: KitaruClient, choice: StoreChoice) -> None:
    exec_id = run(research, CANARY)
    Path(make_place(choice.location), ".building-4711").write_text(CANARY)
    client.executions.delete(exec_id)
    assert copied(choice) == []
