"""R22: what a released format wrote is opened, read, gone on with and replayed for ever; every payload of it decodes.

The files in `format-N` are written once, by make.py, and never changed: where one of these tests fails, the code is wrong.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru.client import KitaruClient
from kitaru.compose import close_logs, open_log, projectors
from kitaru.domain.events import EventBase
from kitaru.runtime import operations, process, recovery
from kitaru.runtime.clock import install
from kitaru.runtime.flow import Flow
from kitaru.runtime.handle import FlowHandle
from kitaru.settings import Configuration, StoreChoice, configured
from kitaru.store.log import EventLog
from kitaru.store.registry import CODECS, UPCASTERS, body_of, decode
from kitaru.store.sqlite import schema
from kitaru.store.sqlite.rebuild import rebuild
from kitaru.store.sqlite.verify import verify
from kitaru.testing import FakeClock
from tests.golden import flows

HERE = Path(__file__).parent
FORMATS = sorted(path.name for path in HERE.glob("format-*"))
FILES = [file for name in FORMATS for file in sorted((HERE / name).glob("events*.jsonl"))]
LINES = [(file.parent.name, json.loads(line)) for file in FILES for line in file.read_text().splitlines()]
LATER = 1_800_000_000_000_000
PATIENCE = 20.0


@pytest.fixture(params=FORMATS)
def golden(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of a golden store; its digest, and what is beside it, are looked at again afterwards."""
    for name in ("KITARU_STORE", "KITARU_SERVER_URL", "KITARU_PROJECT", "KITARU_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KITARU_CONFIG_DIR", str(tmp_path / "config"))
    original = HERE / request.param
    before = digest_of(original)
    (tmp_path / "store").mkdir(mode=0o700)
    shutil.copyfile(original / "kitaru.db", tmp_path / "store" / "kitaru.db")
    (tmp_path / "store" / "kitaru.db").chmod(0o600)
    kitaru.configure(store=tmp_path / "store", durability="os")
    clock = install(FakeClock(LATER))
    flows.ran.clear()
    flows.world.update(broken=False, factor=2)
    yield tmp_path / "store"
    process.join_all()
    install(clock)
    close_logs()
    fresh = Configuration()
    for name in Configuration.__slots__:
        setattr(configured, name, getattr(fresh, name))
    assert digest_of(original) == before


@pytest.fixture
def log(golden: Path) -> EventLog:
    return open_log(StoreChoice(str(golden), "of the test"))


@pytest.fixture
def expected(request: pytest.FixtureRequest, golden: Path) -> dict[str, Any]:
    """What the store says of its executions, by name."""
    name = request.node.callspec.params["golden"]
    return json.loads((HERE / name / "expected.json").read_text())["executions"]


def digest_of(folder: Path) -> dict[str, str]:
    return {file.name: sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}


def rows_of(folder: Path) -> dict[str, list[str]]:
    """Every row of the read models, in order."""
    with closing(sqlite3.connect(f"file:{folder}/kitaru.db?mode=ro", uri=True)) as db:
        tables = [table for make in projectors() for table in make("").tables]
        return {table: sorted(repr(row) for row in db.execute(f"SELECT * FROM {table}")) for table in tables}


def gone_on(log: EventLog, exec_id: str, flow: Flow[..., Any]) -> Any:
    """Take it over as recovery does, with the flow at hand, and give what it returns."""
    runner = recovery.take_over(log, exec_id, flow, stay_seconds=0)
    assert runner is not None
    assert runner.done.wait(PATIENCE)
    return FlowHandle(log, exec_id, flow, None).get()


def test_the_present_format_has_a_golden_store() -> None:
    assert f"format-{schema.FORMAT}" in FORMATS


def test_it_is_whole(golden: Path) -> None:
    open_log(StoreChoice(str(golden), "of the test"))  # which folds read models that are not current
    close_logs()
    report = verify(str(golden), projectors())
    assert report.problems == ()


def test_its_read_models_are_folded_again_to_the_same_rows(golden: Path, log: EventLog) -> None:
    before = rows_of(golden)
    assert all(before.values()), "a table is not tried"
    rebuild(str(golden), log.writer, projectors())  # type: ignore[attr-defined]
    assert rows_of(golden) == before


def test_every_event_is_read_as_it_was_written(log: EventLog, expected: dict[str, Any]) -> None:
    for name, execution in expected.items():
        events = [type(recorded.event).__name__ for recorded in log.read(execution["exec_id"])]
        assert events == execution["events"], name


def test_the_store_holds_every_event_type_of_its_time(golden: Path, expected: dict[str, Any]) -> None:
    for folder in FORMATS:
        lines = (HERE / folder / "events.jsonl").read_text().splitlines()
        if json.loads((HERE / folder / "expected.json").read_text())["executions"] == expected:
            held = {event for execution in expected.values() for event in execution["events"]}
            assert held == {json.loads(line)["type"] for line in lines}
            return
    raise AssertionError("no format has these executions")


def test_it_is_listed(golden: Path, expected: dict[str, Any]) -> None:
    with KitaruClient(str(golden)) as client:
        listed = {found.exec_id: found for found in client.executions.list()}
    assert {exec_id: found.status.value for exec_id, found in listed.items()} == {
        execution["exec_id"]: execution["status"] for execution in expected.values()
    }
    assert all(found.tags == ("golden", "seen") for found in listed.values() if found.flow_name == "everything")


def test_every_execution_is_shown_in_full_and_agrees_with_the_list(golden: Path, expected: dict[str, Any]) -> None:
    with KitaruClient(str(golden)) as client:
        listed = {found.exec_id: found for found in client.executions.list()}
        for execution in expected.values():
            found = client.executions.get(execution["exec_id"])
            parts = {"checkpoints": None, "artifacts": None, "waits": None, "llm_usage_records": None}
            assert found.model_copy(update=parts).model_dump() == listed[found.exec_id].model_dump()


def test_values_come_back_with_their_types(golden: Path, log: EventLog, expected: dict[str, Any]) -> None:
    done = expected["completed"]["exec_id"]
    value = FlowHandle(log, done, flows.everything, None).get()
    fetched = {"word": "saw", "sizes": [1, 2.5, None], "pair": (1, b"\x00\xff")}
    assert value == [fetched, "SAW", 49, 16_500, 2]
    assert type(value[0]["pair"]) is tuple
    with KitaruClient(str(golden)) as client:
        assert kitaru.load(done, "report") == {"word": "saw"}
        assert client.executions.get(done).metadata["customer"] == "c1"


def test_a_failure_is_shown(golden: Path, expected: dict[str, Any]) -> None:
    with KitaruClient(str(golden)) as client:
        failure = client.executions.get(expected["failed"]["exec_id"]).failure
    assert failure is not None
    assert (failure.exception_type, failure.message, failure.origin) == ("builtins.KeyError", "'broken'", "user_code")


def test_what_waits_is_answered_and_goes_on(log: EventLog, expected: dict[str, Any], golden: Path) -> None:
    exec_id = expected["waiting"]["exec_id"]
    with KitaruClient(str(golden)) as client:
        (wait,) = client.executions.pending_waits()
    assert (wait.exec_id, wait.question, wait.schema_, wait.metadata) == (
        exec_id, "How many?", {"type": "integer"}, {"unit": "box"},
    )  # fmt: skip
    with pytest.raises(kitaru.KitaruWaitValidationError):
        operations.answer(log, exec_id, "amount", "many", by="Bea")
    operations.answer(log, exec_id, "amount", 9, by="Bea")
    recovery.take_over(log, exec_id, flows.asks, stay_seconds=0)
    process.join_all()
    assert [wait.name for wait in log.head(exec_id).state.pending] == ["sleep"]
    install(FakeClock(LATER + 3_600_000_000))
    assert gone_on(log, exec_id, flows.asks) == ["glue", 9, 2]
    assert flows.ran == ["combine 2"]


@pytest.mark.parametrize(
    ("name", "flow", "value", "ran"),
    [
        ("sleeping", flows.asks, ["nail", 3, 2], ["combine 2"]),
        ("queued", flows.breaks, 26, ["cached 5", "fragile 25"]),
    ],
)
def test_what_could_go_on_goes_on(
    log: EventLog, expected: dict[str, Any], name: str, flow: Any, value: object, ran: list[str]
) -> None:
    assert gone_on(log, expected[name]["exec_id"], flow) == value
    assert flows.ran == ran


def test_what_was_answered_goes_on(log: EventLog, expected: dict[str, Any]) -> None:
    recovery.take_over(log, expected["answered"]["exec_id"], flows.asks, stay_seconds=0)
    process.join_all()
    install(FakeClock(LATER + 3_600_000_000))
    assert gone_on(log, expected["answered"]["exec_id"], flows.asks) == ["saw", 4, 2]
    assert flows.ran == ["combine 2"]


def test_what_lost_its_runner_is_recovered(log: EventLog, expected: dict[str, Any]) -> None:
    exec_id = expected["lost"]["exec_id"]
    assert exec_id in recovery.lost_executions(log, "default")
    value = gone_on(log, exec_id, flows.everything)
    assert (value[0]["word"], value[1:]) == ("late", ["LATE", 49, 16_500, 2])


def test_a_failed_one_is_retried(log: EventLog, expected: dict[str, Any]) -> None:
    exec_id = expected["failed"]["exec_id"]
    operations.retry(log, exec_id, flow=flows.breaks, by="Bea")
    process.join_all()
    assert FlowHandle(log, exec_id, flows.breaks, None).get() == 10
    assert flows.ran == ["fragile 9"]


def test_a_completed_one_is_replayed(golden: Path, expected: dict[str, Any]) -> None:
    handle = flows.everything.replay(expected["completed"]["exec_id"], from_="long_text")
    assert handle.wait(PATIENCE)[1:] == ["SAW", 49, 16_500, 2]
    assert flows.ran == ["long_text x", "combine 2"]


def test_an_idempotency_key_of_it_finds_its_execution(golden: Path, expected: dict[str, Any]) -> None:
    handle = flows.breaks.options(idempotency_key="key-1").run(number=3)
    assert (handle.exec_id, handle.get()) == (expected["reused"]["exec_id"], 10)


def test_a_result_of_it_is_used_again(golden: Path) -> None:
    handle = flows.breaks.run(number=4)
    assert (handle.wait(PATIENCE), flows.ran) == (17, ["fragile 16"])


def test_what_was_erased_and_deleted_stays_so(golden: Path, log: EventLog, expected: dict[str, Any]) -> None:
    assert b"secret" not in (golden / "kitaru.db").read_bytes()
    with KitaruClient(str(golden)) as client:
        assert client.executions.get(expected["erased"]["exec_id"]).metadata == {}
    assert len(log.tombstones()) == 1


# --- the events by themselves -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", range(len(LINES)), ids=lambda at: f"{LINES[at][0]}:{LINES[at][1]['type']}:{at}")
def test_a_recorded_event_decodes_to_what_it_was(line: int) -> None:
    _, recorded = LINES[line]
    event = decode(recorded["type"], recorded["v"], recorded["body"].encode())
    now = event.model_dump(mode="json")
    codec = CODECS[type(event)]
    if recorded["v"] == codec.v:
        assert {name: now[name] for name in recorded["event"]} == recorded["event"]
        assert body_of(event, codec).decode() == recorded["body"]
    added = {name for name in now if name not in recorded["event"]}
    assert all(getattr(event, name) == type(event).model_fields[name].default for name in added)


def test_every_event_type_and_version_has_a_line() -> None:
    written = {(line["type"], line["v"]) for _, line in LINES}
    assert written == {(codec.name, codec.v) for codec in CODECS.values()} | set(UPCASTERS)


@pytest.mark.parametrize("kind", CODECS, ids=lambda kind: kind.__name__)
def test_every_field_is_in_some_line_with_another_value_than_its_default(kind: type[EventBase]) -> None:
    codec = CODECS[kind]
    bodies = [json.loads(line["body"]) for _, line in LINES if (line["type"], line["v"]) == (codec.name, codec.v)]
    named = {name for body in bodies for name in body}
    assert named == set(kind.model_fields) - {"type", "v"}
