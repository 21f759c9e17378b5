"""What the library's defaults lack and the log must have: each test fails without its remedy."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable

import pytest
from eventsourcing.persistence import StoredEvent

from kitaru.domain.commands import Cancel
from kitaru.domain.errors import KitaruBackendError, KitaruUsageError
from kitaru.domain.events import EventBase, MetadataLogged
from kitaru.domain.payload import Payload
from kitaru.store.sqlite import schema
from kitaru.store.sqlite.connection import database_path
from kitaru.store.sqlite.log import SQLiteLog
from kitaru.testing import append, call, completed, new_id, start


def _statements(log: SQLiteLog, act: Callable[[], object]) -> list[str]:
    seen: list[str] = []
    connection = log.writer._connection
    assert connection is not None
    connection.set_trace_callback(seen.append)
    act()
    connection.set_trace_callback(None)
    return [" ".join(statement.split()[:3]) for statement in seen]


def _edit(folder: str, sql: str, *parameters: object) -> None:
    connection = sqlite3.connect(database_path(folder))
    with connection:
        assert connection.execute(sql, parameters).rowcount == 1
    connection.close()


# 1. a closed registry


def test_a_stored_type_that_names_a_module_imports_nothing(log: SQLiteLog) -> None:
    exec_id = new_id()
    log.recorder.insert_events([StoredEvent(exec_id, 1, "turtledemo.clock:main", b"{}")])
    with pytest.raises(KitaruBackendError, match="upgrade") as caught:
        list(log.read(exec_id))
    assert caught.value.code == "unknown-event"
    assert not any(name.startswith("turtledemo") for name in sys.modules)


def test_a_newer_schema_version_of_an_event_says_upgrade(log: SQLiteLog, folder: str) -> None:
    from kitaru.store.registry import decode

    with pytest.raises(KitaruBackendError, match="upgrade"):
        decode("ExecutionSuspended", 2, b'{"at":1}')


def test_an_older_schema_version_passes_through_its_upcaster(monkeypatch: pytest.MonkeyPatch) -> None:
    from kitaru.store import registry

    monkeypatch.setitem(registry.UPCASTERS, ("WaitAborted", 0), lambda old: {**old, "by": "nobody"})
    assert registry.decode("WaitAborted", 0, b'{"at":1,"wait":2}').model_dump() == {
        "v": 1,
        "at": 1,
        "type": "WaitAborted",
        "wait": 2,
        "by": "nobody",
    }


# 2. positions


def test_a_position_is_not_used_again_after_the_tail_was_deleted(log: SQLiteLog, folder: str) -> None:
    append(log, start(log), completed())
    head = append(log, start(log), completed())
    last = log.last_position()
    log.delete(head.exec_id)
    log.close()
    again = SQLiteLog(folder)
    start(again)
    assert min(r.position for r in again.tail(after=last - 3)) > last
    again.close()


def test_a_number_is_not_used_again_after_the_newest_was_deleted(log: SQLiteLog) -> None:
    head = append(log, start(log), completed())
    log.delete(head.exec_id)
    assert start(log).number == head.number + 1


# 3. the chain

_DAMAGES = {
    "body": "UPDATE events SET body = CAST(replace(CAST(body AS TEXT), 'step_2', 'step_3') AS BLOB) WHERE version = 5",
    "payload": "UPDATE events SET payload = CAST('3' AS BLOB) WHERE version = 6",
    "payload-lost": "UPDATE events SET payload = NULL WHERE version = 6",
    "digest": "UPDATE events SET digest = zeroblob(32) WHERE version = 5",
    "type": "UPDATE events SET type = 'CheckpointFailed' WHERE version = 4",
    "schema-version": "UPDATE events SET v = 0 WHERE version = 5",
    "event-id": "UPDATE events SET event_id = 'x' WHERE version = 5",
    "lost": "DELETE FROM events WHERE version = 5",
    "lost-last": "DELETE FROM events WHERE version = 6",
    "null-body": "UPDATE events SET body = 7 WHERE version = 5",
    "other-place": "UPDATE events SET number = 77 WHERE version = 5",
}


@pytest.mark.parametrize("damage", _DAMAGES.values(), ids=_DAMAGES.keys())
def test_a_damaged_event_is_named_and_nothing_wrong_is_given(log: SQLiteLog, folder: str, damage: str) -> None:
    head = append(log, start(log), *call(1), *call(2, b"2"))
    whole = [recorded.event for recorded in log.read(head.exec_id)]
    _edit(folder, damage)
    given: list[EventBase] = []
    with pytest.raises(KitaruBackendError) as caught:
        given.extend(recorded.event for recorded in log.read(head.exec_id))
    assert caught.value.code == "store-corrupt"
    assert head.exec_id in caught.value.message
    assert given == whole[: len(given)]


def test_two_events_that_changed_places_are_seen(log: SQLiteLog, folder: str) -> None:
    head = append(log, start(log), *call(1), *call(2), *call(3))
    for before, after in ((4, 99), (6, 4), (99, 6)):
        _edit(folder, "UPDATE events SET version = ? WHERE version = ?", after, before)
    with pytest.raises(KitaruBackendError, match="event 4 of"):
        list(log.read(head.exec_id))


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE streams SET status = 'waiting'",
        "UPDATE streams SET epoch = 3",
        'UPDATE streams SET pending = \'[[1,"input","a",2,null]]\'',
        "UPDATE streams SET runner = NULL",
        "UPDATE streams SET version = 3",
        "UPDATE streams SET digest = zeroblob(32)",
        "UPDATE streams SET flags = 1",
        "UPDATE streams SET seal = 1",
        "UPDATE streams SET status = 9",
    ],
)
def test_a_damaged_head_row_decides_nothing(log: SQLiteLog, folder: str, damage: str) -> None:
    head = append(log, start(log), *call(1))
    before = log.last_position()
    _edit(folder, damage)
    for act in (lambda: log.head(head.exec_id), lambda: log.execute(head.exec_id, Cancel("me", None), 2)):
        with pytest.raises(KitaruBackendError) as caught:
            act()
        assert caught.value.code == "store-corrupt"
    assert log.last_position() == before


def test_nothing_is_decided_after_a_last_event_that_is_lost(log: SQLiteLog, folder: str) -> None:
    head = append(log, start(log), *call(1))
    _edit(folder, "DELETE FROM events WHERE version = 4")
    for act in (lambda: log.head(head.exec_id), lambda: log.execute(head.exec_id, Cancel("me", None), 2)):
        with pytest.raises(KitaruBackendError, match="event 4 of"):
            act()


def test_the_tail_names_a_damaged_event(log: SQLiteLog, folder: str) -> None:
    append(log, start(log), *call(1))
    _edit(folder, "UPDATE events SET body = CAST('{}' AS BLOB) WHERE version = 3")
    with pytest.raises(KitaruBackendError, match="event 3 of"):
        log.tail()


# 4. pragmas


def test_every_pragma_is_as_it_has_to_be(log: SQLiteLog) -> None:
    connection = log.writer._connection
    assert connection is not None
    found = {
        name: connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "foreign_keys", "trusted_schema", "secure_delete", "synchronous", "application_id")
    }
    assert found == {
        "journal_mode": "wal",
        "foreign_keys": 1,
        "trusted_schema": 0,
        "secure_delete": 1,
        "synchronous": 2,
        "application_id": schema.APPLICATION_ID,
    }
    assert connection.execute("PRAGMA user_version").fetchone()[0] == schema.FORMAT


def test_an_outcome_is_committed_on_disk_and_an_attempt_by_the_operating_system(log: SQLiteLog) -> None:
    head = start(log)
    opened, done = call(1)
    seen = _statements(log, lambda: append(log, append(log, head, opened), done))
    assert [s for s in seen if s.startswith("PRAGMA") or s == "COMMIT"] == [
        "PRAGMA synchronous =",
        "COMMIT",
        "PRAGMA synchronous =",
        "COMMIT",
    ]
    assert _level(log) == 2
    append(log, log.head(head.exec_id), MetadataLogged(at=1, values=Payload.of(b"{}", "k1")))
    assert _level(log) == 1


def test_one_outcome_in_a_batch_takes_the_batch_to_disk(log: SQLiteLog) -> None:
    head = start(log)
    append(log, head, call(1)[0])
    assert _level(log) == 1
    append(log, log.head(head.exec_id), call(1)[1], call(2)[0])
    assert _level(log) == 2


def test_the_level_is_not_set_again_when_it_is_right(log: SQLiteLog) -> None:
    head = start(log)
    opened, done = call(1)
    head = append(log, head, opened, done)
    opened, done = call(2)
    assert not any("PRAGMA" in statement for statement in _statements(log, lambda: append(log, head, opened, done)))


def test_durability_os_lowers_outcomes(folder: str) -> None:
    log = SQLiteLog(folder, durability="os")
    append(log, start(log), *call(1), completed())
    assert _level(log) == 1
    log.close()


def _level(log: SQLiteLog) -> int:
    connection = log.writer._connection
    assert connection is not None
    return connection.execute("PRAGMA synchronous").fetchone()[0]


# 5. one connection, BEGIN IMMEDIATE, nothing more than it takes


def test_an_append_is_four_statements(log: SQLiteLog) -> None:
    head = append(log, start(log), *call(1))
    assert _statements(log, lambda: append(log, head, call(2)[0]))[1:] == [
        "BEGIN IMMEDIATE",
        "UPDATE streams SET",
        "INSERT INTO events",
        "COMMIT",
    ]


def test_the_writer_keeps_its_connection(log: SQLiteLog) -> None:
    connection = log.writer._connection
    append(log, start(log), *call(1), completed())
    assert log.writer._connection is connection


def test_an_append_does_not_read_the_stream(log: SQLiteLog) -> None:
    head = start(log)
    for number in range(1, 40):
        head = append(log, head, *call(number))
    assert not any("SELECT" in s for s in _statements(log, lambda: append(log, head, *call(40))))


# 6. limits before the append


def test_a_refused_event_begins_no_transaction(log: SQLiteLog) -> None:
    head = start(log)
    too_long = MetadataLogged(at=1, key="k" * 300, values=Payload.of(b"{}", "k1"))

    def refused() -> None:
        with pytest.raises(KitaruUsageError):
            append(log, head, too_long)

    assert _statements(log, refused) == []
