"""Processes that append: batches that can be told whole from half, each acknowledged after its append has returned."""

from __future__ import annotations

import os
import random
import threading
import time
from multiprocessing.synchronize import Barrier

from saying import say

from kitaru.compose import open_log
from kitaru.domain.commands import Report, Start
from kitaru.domain.decide import advance
from kitaru.domain.events import (
    ArtifactSaved,
    AttemptStarted,
    CheckpointCompleted,
    Event,
    ExecutionStarted,
    FlowOptions,
    MetadataLogged,
    Target,
)
from kitaru.domain.ids import uuid7
from kitaru.domain.payload import Payload
from kitaru.settings import resolve_store
from kitaru.store.log import EventLog
from kitaru.store.values import CODEC, encode


def now() -> int:
    return time.time_ns() // 1000


def new_id() -> str:
    return uuid7(time.time_ns() // 1_000_000, int.from_bytes(os.urandom(10)))


def payload(value: object) -> Payload:
    return Payload.of(encode(value), CODEC)


class Writer:
    """A runner without a flow: it starts an execution and reports calls of its own invention."""

    def __init__(self, log: EventLog, name: str = "appended") -> None:
        started = ExecutionStarted(
            at=now(), flow_id=f"flow-{name}", flow_name=name, project="default",
            target=Target(file=None, qualname=name), options=FlowOptions(), stack="local", inputs=payload({"name": name}),
        )  # fmt: skip
        self.log = log
        self.exec_id = new_id()
        self.head, _ = log.execute(self.exec_id, Start(started, log.leases.acquire()), started.at)
        self.batch = 0

    @property
    def version(self) -> int:
        return self.head.version

    def report(self, *events: Event) -> None:
        """Append, by the rules, in one batch."""
        before = self.head.state
        state = advance(before, Report(before.epoch, events), now())
        self.head = self.log.append(self.head, events, state, [new_id() for _ in events])

    def start_attempt(self) -> int:
        """An AttemptStarted, which is no outcome; the call's number."""
        call = self.head.state.calls + 1
        self.report(
            AttemptStarted(at=now(), call=call, attempt=1, invocation_id=f"call_{call}", name="call", input_digest="0" * 32)
        )
        return call

    def complete(self, call: int, facts: int = 0, filler: int = 0) -> None:
        """`facts` facts and the outcome in one batch: each says which batch it is of, its place there, and of how many."""
        self.batch += 1
        of = facts + 1

        def mark(place: int) -> Payload:
            return payload({"batch": self.batch, "place": place, "of": of, "filler": "x" * (filler if place == 0 else 9)})

        events: list[Event] = []
        for place in range(facts):
            if place % 2:
                events.append(ArtifactSaved(at=now(), call=call, attempt=1, name="a", kind="blob", value=mark(place)))
            else:
                events.append(MetadataLogged(at=now(), call=call, attempt=1, values=mark(place)))
        events.append(CheckpointCompleted(at=now(), call=call, attempt=1, output=mark(of - 1)))
        self.report(*events)


def random_batches(threads: int, seed: int, batches: int | None = None) -> int:
    """Several threads, each with an execution of its own, until killed or until each has appended `batches` batches."""
    log = open_log(resolve_store())
    failures: list[BaseException] = []

    def append(number: int) -> None:
        chance = random.Random(f"{seed}.{number}")
        try:
            writer = Writer(log)
            say(exec_id=writer.exec_id, version=writer.version, outcome=True)
            while batches is None or writer.batch < batches:
                call = writer.start_attempt()
                say(exec_id=writer.exec_id, version=writer.version, outcome=False)
                filler = chance.choice((0, 0, 0, 0, 300, 5_000, 40_000))
                writer.complete(call, facts=chance.randrange(4), filler=filler)
                say(exec_id=writer.exec_id, version=writer.version, outcome=True)
        except BaseException as error:
            failures.append(error)
            raise

    workers = [threading.Thread(target=append, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return 1 if failures else 0


def timed_appends(appends: int, barrier: Barrier) -> int:
    """Single appends of outcomes one after the other; each one's duration."""
    log = open_log(resolve_store())
    writer = Writer(log)
    barrier.wait()
    slowest = 0.0
    for _ in range(appends // 2):
        for append in (writer.start_attempt, lambda: writer.complete(writer.head.state.calls)):
            before = time.perf_counter()
            append()
            slowest = max(slowest, time.perf_counter() - before)
    say(exec_id=writer.exec_id, version=writer.version, slowest=slowest)
    return 0


def timed_plain_appends(appends: int, barrier: Barrier) -> int:
    """The same number of the plainest rows, each a commit of its own, with SQLite's busy timeout for a queue."""
    import sqlite3

    connection = sqlite3.connect("plain.db", timeout=60, isolation_level=None)
    barrier.wait()
    slowest = 0.0
    for number in range(appends):
        before = time.perf_counter()
        connection.execute("PRAGMA synchronous = NORMAL" if number % 2 == 0 else "PRAGMA synchronous = FULL")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO events (process, number, body) VALUES (?, ?, ?)", (os.getpid(), number, b"x" * 400))
        connection.execute("COMMIT")
        slowest = max(slowest, time.perf_counter() - before)
    say(slowest=slowest)
    return 0


def follow(seconds: float) -> int:
    """Write one execution, a batch every few milliseconds, for `seconds`."""
    writer = Writer(open_log(resolve_store()))
    say(exec_id=writer.exec_id)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        writer.complete(writer.start_attempt(), facts=writer.batch % 3, filler=20_000 if writer.batch % 50 == 0 else 50)
        time.sleep(0.006)
    say(version=writer.version)
    return 0
