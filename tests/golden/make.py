"""Writes the golden store of the current format: `python -m tests.golden.make`. Once for a released format, and never again:
what an event gets afterwards (a field, a version) gets lines of its own in a further file beside it, `events-2.jsonl`.

The executions are run in a scratch store under a clock that stands still, and copied from there: with a target that is on
no machine, with the same event ids every time, and with tracebacks that name no place.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import kitaru
from kitaru.compose import close_logs, open_log, projectors
from kitaru.domain import commands as c
from kitaru.domain import events as e
from kitaru.domain.ids import flow_id, uuid7
from kitaru.domain.payload import Payload
from kitaru.domain.state import evolve
from kitaru.runtime import operations, process, recovery
from kitaru.runtime.clock import install
from kitaru.runtime.flow import Flow
from kitaru.runtime.session import encode_payload
from kitaru.settings import StoreChoice
from kitaru.store.log import EventLog
from kitaru.store.registry import CODECS, body_of
from kitaru.store.sqlite import schema
from kitaru.store.sqlite.log import SQLiteLog
from kitaru.store.values import decode
from kitaru.testing import FakeClock
from tests.domain.samples import EVENT_TYPES, sample
from tests.golden import flows

BEGIN = 1_767_225_600_000_000  # 2026-01-01
FILE = "/golden/flows.py"
HERE = Path(__file__).parent
TEXT = Payload.of(b'"text"', "k1")
FULL: dict[str, dict[str, object]] = {
    "ExecutionStarted": {
        "tags": ("a", "b"), "metadata": TEXT, "idempotency_key": "k", "original_exec_id": "x", "replay_from": 2,
        "overrides": TEXT, "target": e.Target(file=None, qualname="f.<locals>.g", digest="0" * 32),
        "options": e.FlowOptions(
            retries=2, cache="1", default_cache=True, strict=True, image="i", max_cost_usd=1.5, max_tokens=10
        ),
    },
    "ExecutionSuspended": {"leaves_work": True},
    "ExecutionResumed": {"file_digest": "0" * 32},
    "ExecutionRetried": {"automatic": True, "file_digest": "0" * 32},
    "ExecutionFailed": {"traceback": TEXT, "exception": TEXT, "origin": "divergence"},
    "AttemptStarted": {
        "invocation_id": "1/fetch_2", "name": "fetch", "checkpoint_type": "tool", "input_digest": "0" * 32,
        "parents": (1, 2), "opaque": ("client",),
    },
    "AttemptFailed": {"traceback": TEXT, "exception": TEXT, "retry_after": 0.5},
    "CheckpointCompleted": {"reuse_key": "k"},
    "CheckpointReused": {"checkpoint_type": "tool", "parents": (1,)},
    "WaitOpened": {
        "kind": "timer", "question": TEXT, "json_schema": TEXT, "metadata": TEXT, "default": TEXT, "expires_at": 10**15,
    },
    "ArtifactSaved": {"key": "k", "call": 1, "attempt": 2, "tags": ("t",)},
    "MetadataLogged": {"key": "k", "call": 1, "attempt": 2},
    "HistoryDropped": {"cancel_requested": True, "woken": True},
    "TagsChanged": {"key": "k", "by": "Ada", "add": ("é",), "remove": ("b",)},
}  # fmt: skip
"""The fields beside the required ones, each with another value than its default."""


class Made:
    """The scratch store, and the executions that are to be copied, by name."""

    def __init__(self, log: EventLog, clock: FakeClock) -> None:
        self.log = log
        self.clock = clock
        self.ids: dict[str, str] = {}

    def run(self, name: str, flow: Flow[..., object], **inputs: object) -> str:
        """Run it until its runner has left."""
        self.clock.advance(60)
        self.ids[name] = flow.run(**inputs).exec_id
        process.join_all()
        return self.ids[name]

    def go_on(self, name: str, flow: Flow[..., object]) -> None:
        """Take it over, and run it until its runner has left."""
        self.clock.advance(60)
        recovery.take_over(self.log, self.ids[name], flow, stay_seconds=0)
        process.join_all()

    def answer(self, name: str, wait: str, value: object) -> None:
        """Answer a wait."""
        operations.answer(self.log, self.ids[name], wait, value, by="Ada")


def fill(made: Made) -> None:
    """One execution for each thing that a store may be asked to go on with."""
    log = made.log
    made.run("completed", flows.everything.options(metadata={"customer": "c1"}))
    flows.world["broken"] = True
    made.run("failed", flows.breaks)
    made.run("retried", flows.breaks, number=4)
    flows.world["broken"] = False
    operations.retry(log, made.ids["retried"], flow=flows.breaks, by="Ada")
    process.join_all()
    made.run("reused", flows.breaks.options(idempotency_key="key-1"), number=3)
    made.run("waiting", flows.asks)
    made.run("sleeping", flows.asks, item="nail")
    made.answer("sleeping", "amount", 3)
    made.go_on("sleeping", flows.asks)
    made.run("answered", flows.asks, item="saw")
    made.answer("answered", "amount", 4)
    made.run("aborted", flows.hurries)
    operations.abort_wait(log, made.ids["aborted"], "word", by="Ada")
    made.run("expired", flows.hurries)
    made.clock.advance(90_000)
    made.go_on("expired", flows.hurries)
    flows.world["factor"] = 2
    made.run("differed", flows.depends)
    made.answer("differed", "gate", None)
    flows.world["factor"] = 3
    operations.resume(log, made.ids["differed"], flow=flows.depends, by="Ada")
    process.join_all()
    replay = flows.breaks.replay(made.ids["reused"], from_="fragile", overrides={"checkpoint.cached": 5})
    made.ids["replay"] = replay.exec_id
    process.join_all()
    made.run("erased", flows.breaks.options(metadata={"canary": "secret"}), number=6)
    made.run("deleted", flows.hurries)
    operations.cancel(log, made.ids["deleted"], by="Ada")
    made.run("lost", flows.everything, word="late")
    queued = flows.breaks.run(number=5, stack="worker")
    made.ids["queued"] = queued.exec_id


def copied(log: EventLog, event: e.EventBase, store_id: str) -> e.EventBase:
    """The event as it is in the golden store."""
    changes: dict[str, object] = {}
    for name in event.payloads:
        payload: Payload | None = getattr(event, name)
        if payload is not None and payload.data is None:
            changes[name] = payload.model_copy(update={"data": log.load(payload)})
    if isinstance(event, e.FailureFields) and event.traceback is not None:
        text = str(decode(event.traceback.data or b"")).replace(str(HERE.parents[1]), "/golden")
        changes["traceback"] = encode_payload(text, "the traceback")[0]
    if isinstance(event, e.ExecutionStarted):
        changes["target"] = event.target.model_copy(update={"file": FILE, "digest": "0" * 32})
        changes["flow_id"] = flow_id(store_id, event.project, event.flow_name)
    return event.model_copy(update=changes)


def copy(made: Made, golden: SQLiteLog, name: str, ids: Iterator[str]) -> None:
    """One execution, event by event."""
    exec_id = made.ids[name]
    started, *rest = [copied(made.log, recorded.event, golden.store_id) for recorded in made.log.read(exec_id)]
    assert isinstance(started, e.ExecutionStarted)
    claimed = rest[0] if rest and isinstance(rest[0], e.RunnerClaimed) else None
    head, _ = golden.execute(exec_id, c.Start(started, claimed.runner if claimed else None), started.at)
    rest = rest[1:]
    if name == "completed":
        record, _ = encode_payload({"schema_version": 1, "model": "m", "usage": {"total_tokens": 7}}, "the record")
        place = next(at for at, event in enumerate(rest) if isinstance(event, e.AttemptStarted))
        call = rest[place]
        assert isinstance(call, e.AttemptStarted)
        used = e.LLMUsageRecorded(at=call.at, call=call.call, attempt=1, record_id="r1", record=record)
        rest.insert(place + 1, used)
    if name == "lost":  # it ends in the middle of a step, with a runner that is no more
        place = [at for at, event in enumerate(rest) if isinstance(event, e.AttemptStarted)][1]
        rest = rest[: place + 1]
    for event in rest:
        state = evolve(head.state, event)  # type: ignore[arg-type]
        head = golden.append(head, [event], state, [next(ids)])
    if name == "erased":
        golden.erase(exec_id, "Ada", made.clock.now())
    if name == "deleted":
        golden.delete(exec_id)


def event_lines() -> Iterator[str]:
    """Each event type twice: with what it has to have, and with all that it may have."""
    for kind in EVENT_TYPES:
        codec = CODECS[kind]
        for fields in ({}, FULL.get(kind.__name__)):
            if fields is not None:
                event = sample(kind, **fields)
                body = body_of(event, codec).decode()
                line = {"type": codec.name, "v": codec.v, "body": body, "event": event.model_dump(mode="json")}
                yield json.dumps(line, ensure_ascii=False)


def expectation(log: EventLog, made: Made) -> Iterator[tuple[str, dict[str, object]]]:
    """What the golden store says of each execution."""
    for name, exec_id in made.ids.items():
        if name != "deleted":
            state = log.head(exec_id).state
            types = [type(recorded.event).__name__ for recorded in log.read(exec_id)]
            pending = [wait.name for wait in state.pending]
            yield name, {"exec_id": exec_id, "status": state.status, "pending": pending, "events": types}


def shrink(file: Path) -> None:
    """Leave no free pages in it, and nothing beside it."""
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("VACUUM")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def make(target: Path) -> None:
    """Write the golden files into a folder that is not there yet."""
    target.mkdir(parents=True)
    clock = FakeClock(BEGIN)
    install(clock)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["KITARU_CONFIG_DIR"] = str(Path(scratch) / "config")
        kitaru.configure(store=Path(scratch) / "scratch", durability="os")
        made = Made(open_log(StoreChoice(str(Path(scratch) / "scratch"), "of the script")), clock)
        fill(made)
        golden = SQLiteLog(str(Path(scratch) / "golden"), projectors())
        ids = (uuid7(BEGIN // 1000 + number, number) for number in range(1, 10**6))
        for name in made.ids:
            copy(made, golden, name, ids)
        expected = {"store_id": golden.store_id, "executions": dict(expectation(golden, made))}
        golden.close()
        close_logs()
        file = Path(scratch) / "golden" / "kitaru.db"
        shrink(file)
        (target / "kitaru.db").write_bytes(file.read_bytes())
    (target / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
    (target / "events.jsonl").write_text("".join(f"{line}\n" for line in event_lines()))


if __name__ == "__main__":
    folder = HERE / f"format-{schema.FORMAT}"
    if folder.exists():
        sys.exit(f"{folder} is there: what a release wrote is never written again")
    make(folder)
