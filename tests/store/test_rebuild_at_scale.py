"""R18 at 100,000 events: the rows that a rebuild makes are, byte for byte, those that the appends made."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest

from benchmarks.contenders.fill import append, checkpoint_events, payload, start_execution
from kitaru.compose import projectors
from kitaru.domain import commands as c
from kitaru.domain import events as e
from kitaru.domain.errors import FailureOrigin
from kitaru.domain.usage import UsageFigures
from kitaru.store.sqlite.connection import database_path
from kitaru.store.sqlite.log import SQLiteLog

EXECUTIONS = 100
CALLS = 520
EVENTS = 100_000


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SQLiteLog]:
    log = SQLiteLog(str(tmp_path / "store"), projectors(), durability="os")
    yield log
    log.close()


def test_a_rebuild_of_100000_events_gives_the_same_bytes(log: SQLiteLog) -> None:
    fill(log)
    before = dumped(log.location)
    assert all(rows > 0 for rows, _ in before.values()), f"a table is not tried: {before}"
    events = log.rebuild()
    assert events >= EVENTS
    assert generation(log.location) == "2", "nothing was rebuilt"
    assert dumped(log.location) == before


def fill(log: SQLiteLog) -> None:
    """Executions of 1,040 events and more, each in one append; ended, waiting, failed, erased and deleted ones."""
    for number in range(EXECUTIONS):
        head = start_execution(log, number)
        at = 1_767_225_600_000_000 + number
        more: list[e.Event] = [
            e.CheckpointReused(
                at=at, call=CALLS + 1, invocation_id="again", name="again", input_digest="0" * 64, output=payload(1),
                original_call_id=f"{head.exec_id}.c1",
            ) if number % 4 == 0 else e.MetadataLogged(at=at, key="#log", values=payload({"score": number / 3})),
            e.ArtifactSaved(at=at, key="#save", name=f"report {number % 3}", kind="output", value=payload("x" * number)),
            e.TagsChanged(at=at, key="#tag", add=("late", f"t{number}"), remove=("nightly",)),
        ]  # fmt: skip
        endings: list[list[e.Event]] = [
            [e.WaitOpened(at=at, wait=1, kind="input", invocation_id="ask", name="ask", question=payload("ok?"))],
            [e.ExecutionCompleted(at=at, output=payload("done"))],
            [e.ExecutionFailed(at=at, origin=FailureOrigin.USER_CODE, exception_type="E", message=payload("no"))],
            [],
        ]
        append(log, head, [*keyed(number, at), *used(number, at), *more, *endings[number % 4]])
        if number % 8 == 1:
            log.erase(head.exec_id, "me", at)
        elif number % 8 == 2:
            log.execute(head.exec_id, c.Retry("me", None), at)
        elif number in (5, 30):
            log.delete(head.exec_id)


def keyed(number: int, at: int) -> Iterator[e.Event]:
    """The checkpoints' events; what every tenth gives may be used again by others."""
    for event in checkpoint_events(1, CALLS, at):
        if isinstance(event, e.CheckpointCompleted) and event.call % 10 == 0:
            yield event.model_copy(update={"reuse_key": f"{number}.{event.call}"})
        else:
            yield event


def used(number: int, at: int) -> Iterator[e.Event]:
    """What the last call but one of every third says of a model, while it runs."""
    if number % 3 == 0:
        figures = UsageFigures(model=f"m{number % 5}", input_tokens=number, total_tokens=number, actual_cost=number * 7)
        record = payload({"record_id": "r"})
        yield e.LLMUsageRecorded(at=at, call=CALLS, attempt=1, record_id="r", record=record, figures=figures)


def dumped(folder: str) -> dict[str, tuple[int, str]]:
    """How many rows each table of the read models has, and the digest of them all in order."""
    found: dict[str, tuple[int, str]] = {}
    with closing(sqlite3.connect(f"{Path(database_path(folder)).as_uri()}?mode=ro", uri=True)) as connection:
        for table in [table for make in projectors() for table in make("").tables]:
            columns = connection.execute(f"PRAGMA table_info({table})").fetchall()
            order = ", ".join(str(place + 1) for place in range(len(columns)))
            digest, count = sha256(repr(columns).encode()), 0
            for row in connection.execute(f"SELECT * FROM {table} ORDER BY {order}"):
                digest.update(repr(row).encode())
                count += 1
            found[table] = (count, digest.hexdigest())
    return found


def generation(folder: str) -> str:
    """Which making of the read models these are."""
    with closing(sqlite3.connect(f"{Path(database_path(folder)).as_uri()}?mode=ro", uri=True)) as connection:
        return str(connection.execute("SELECT value FROM meta WHERE key = 'generation'").fetchone()[0])
