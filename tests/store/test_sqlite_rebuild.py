"""Rebuild, verify and backup: of a store that others use at the same time."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kitaru.domain.commands import ChangeTags
from kitaru.domain.errors import FailureOrigin, KitaruBackendError, KitaruUsageError
from kitaru.domain.events import ExecutionFailed, WaitOpened
from kitaru.domain.payload import Payload
from kitaru.store.log import Head
from kitaru.store.sqlite.backup import backup
from kitaru.store.sqlite.connection import database_path
from kitaru.store.sqlite.log import SQLiteLog
from kitaru.store.sqlite.verify import verify
from kitaru.testing import append, call, completed, start
from kitaru.testing.counts import EventCounts

Spawn = Callable[..., Any]
_LARGE = b"x" * 20_000


class Tally(EventCounts):
    """The same rows from a later version of the projector, with an index."""

    version = 2

    def create(self, execute: Any, generation: int) -> None:
        super().create(execute, generation)
        execute(f"CREATE INDEX {self.tables[0]}_by_events_g{generation} ON {self.tables[0]} (events)", ())


@pytest.fixture
def counted(folder: str) -> Iterator[SQLiteLog]:
    log = SQLiteLog(folder, (EventCounts,))
    yield log
    log.close()


def _filled(log: SQLiteLog) -> list[Head]:
    heads = [start(log) for _ in range(5)]
    for number in range(1, 4):
        heads = [append(log, head, *call(number, _LARGE if number == 2 else b"1")) for head in heads]
    heads[:2] = [append(log, head, completed(b"secret")) for head in heads[:2]]
    heads[2] = append(log, heads[2], WaitOpened(at=3, wait=1, kind="input", invocation_id="w", name="ask"))
    return heads


def _rows(log: SQLiteLog) -> list[tuple[object, ...]]:
    return log.query("SELECT * FROM event_counts ORDER BY number")


def _edit(folder: str, sql: str, *parameters: object) -> None:
    connection = sqlite3.connect(database_path(folder))
    with connection:
        assert connection.execute(sql, parameters).rowcount == 1
    connection.close()


# --- rebuild -----------------------------------------------------------------------------------------------------------


def test_a_rebuild_gives_the_same_rows(counted: SQLiteLog) -> None:
    heads = _filled(counted)
    counted.delete(heads[0].exec_id)
    counted.erase(heads[1].exec_id, "me", 9)
    before = _rows(counted)
    assert counted.rebuild() == sum(len(list(counted.read(head.exec_id))) for head in heads[1:])
    assert _rows(counted) == before
    assert counted.rebuild() > 0  # and again: the index names of both generations are apart
    assert _rows(counted) == before


def test_a_rebuild_mends_rows(counted: SQLiteLog, folder: str) -> None:
    _filled(counted)
    before = _rows(counted)
    _edit(folder, "UPDATE event_counts SET events = 99 WHERE number = 2")
    counted.rebuild()
    assert _rows(counted) == before


def test_writers_go_on_during_a_rebuild(counted: SQLiteLog) -> None:
    heads = _filled(counted)

    def meanwhile(done: int, total: int) -> None:
        heads[3] = append(counted, heads[3], *call(heads[3].version))
        if len(counted.tombstones()) == 0:
            counted.delete(heads[0].exec_id)
            counted.erase(heads[1].exec_id, "me", 9)
            counted.execute(heads[2].exec_id, ChangeTags(("t",), (), "me"), 3)
            append(counted, start(counted), *call(1))

    counted.rebuild(meanwhile)
    report = verify(counted.location, (EventCounts,))
    assert report.problems == ()
    assert report.executions == 5


def test_a_rebuild_that_is_interrupted_changes_nothing(counted: SQLiteLog) -> None:
    _filled(counted)
    before = _rows(counted)

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        counted.rebuild(interrupt)
    assert _rows(counted) == before
    counted.rebuild()
    assert _rows(counted) == before


def test_a_rebuild_that_is_killed_changes_nothing(counted: SQLiteLog, spawn: Spawn) -> None:
    _filled(counted)
    before = _rows(counted)
    child = spawn(
        "import sys, os\nfrom kitaru.store.sqlite.log import SQLiteLog\nfrom kitaru.testing.counts import EventCounts\n"
        "SQLiteLog(sys.argv[1], (EventCounts,)).rebuild(lambda done, total: os.kill(os.getpid(), 9))",
        counted.location,
    )
    assert child.wait(30) == -9
    assert _rows(counted) == before
    counted.rebuild()
    assert _rows(counted) == before
    assert verify(counted.location, (EventCounts,)).is_whole


def test_a_rebuild_stops_at_a_damaged_event_and_leaves_the_rows(counted: SQLiteLog, folder: str) -> None:
    heads = _filled(counted)
    before = _rows(counted)
    _edit(folder, "UPDATE events SET body = CAST('{}' AS BLOB) WHERE number = 2 AND version = 4")
    with pytest.raises(KitaruBackendError, match=f"event 4 of execution {heads[1].exec_id}"):
        counted.rebuild()
    assert _rows(counted) == before


def test_a_new_projection_is_folded_when_the_store_is_opened(folder: str) -> None:
    log = SQLiteLog(folder)
    _filled(log)
    log.close()
    log = SQLiteLog(folder, (EventCounts,))
    rows = _rows(log)
    assert [row[1] for row in rows] == [9, 9, 9, 8, 8]
    log.close()
    log = SQLiteLog(folder, (Tally,))
    assert _rows(log) == rows
    log.close()
    assert verify(folder, (Tally,)).is_whole


def test_a_store_with_a_newer_projection_says_upgrade(folder: str) -> None:
    SQLiteLog(folder, (Tally,)).close()
    with pytest.raises(KitaruBackendError, match="upgrade") as caught:
        SQLiteLog(folder, (EventCounts,))
    assert caught.value.code == "store-too-new"


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM meta WHERE key = 'projection:event_counts'",
        "UPDATE meta SET value = 'x' WHERE key = 'projection:event_counts'",
        "UPDATE meta SET value = '1' WHERE key = 'projection:event_counts'",
        "UPDATE meta SET value = 'x' WHERE key = 'generation'",
        "DELETE FROM meta WHERE key = 'generation'",
        "ALTER TABLE event_counts DROP COLUMN events",
        "ALTER TABLE event_counts ADD COLUMN more",
        "DROP TABLE event_counts",
        "DROP INDEX blob_uses_by_blob",
        "DROP INDEX streams_by_idempotency_key",
    ],
)
def test_a_rebuild_mends_read_models_that_do_not_fit(folder: str, damage: str) -> None:
    log = SQLiteLog(folder, (Tally,))
    _filled(log)
    log.rebuild()
    before = _rows(log)
    log.close()
    connection = sqlite3.connect(database_path(folder))
    if "COLUMN events" in damage:
        connection.execute("DROP INDEX shadow_event_counts_by_events_g2")
    connection.execute(damage)
    connection.commit()
    connection.close()
    log = SQLiteLog(folder, (Tally,), rebuilds=False)
    assert log.rebuild() > 0
    assert _rows(log) == before
    log.close()
    assert verify(folder, (Tally,)).is_whole


def test_what_lacks_a_column_names_the_rebuild(counted: SQLiteLog, folder: str) -> None:
    _filled(counted)
    connection = sqlite3.connect(database_path(folder))
    connection.execute("ALTER TABLE event_counts DROP COLUMN events")
    connection.close()
    with pytest.raises(KitaruBackendError, match="kitaru store rebuild"):
        counted.query("SELECT events FROM event_counts")


# --- verify ------------------------------------------------------------------------------------------------------------


def test_a_whole_store_has_no_problems(counted: SQLiteLog) -> None:
    heads = _filled(counted)
    counted.erase(heads[0].exec_id, "me", 9)
    failed = ExecutionFailed(at=4, origin=FailureOrigin.USER_CODE, exception_type="E", message=Payload.of(b"m", "k1"))
    append(counted, heads[3], failed)
    counted.erase(heads[3].exec_id, "me", 9)
    counted.execute(heads[3].exec_id, ChangeTags(("late",), (), "me"), 10)
    report = verify(counted.location, (EventCounts,))
    assert report == (len(counted.tail()), 5, 1, ())


@pytest.mark.parametrize(
    ("damage", "kind", "named"),
    [
        ("UPDATE events SET body = CAST('{}' AS BLOB) WHERE number = 2 AND version = 4", "event", "event 4 of"),
        ("UPDATE events SET payload = CAST('9' AS BLOB) WHERE number = 2 AND version = 4", "event", "event 4 of"),
        ("DELETE FROM events WHERE number = 2 AND version = 4", "event", "event 4 of"),
        ("DELETE FROM events WHERE number = 2 AND version = 9", "head", "later events than version 8"),
        ("UPDATE streams SET epoch = 7 WHERE number = 2", "head", "differs"),
        ("UPDATE streams SET idempotency_key = 'x' WHERE number = 2", "head", "idempotency"),
        ("UPDATE blobs SET data = CAST('9' AS BLOB)", "blob", "digest"),
        ("DELETE FROM blob_uses WHERE number = 2", "blob", "missing"),
        ("UPDATE event_counts SET events = 99 WHERE number = 2", "row", "99"),
        ("DELETE FROM event_counts WHERE number = 2", "row", "'number': 2"),
        ("INSERT INTO event_counts VALUES (77, 1)", "row", "'number': 77"),
    ],
)
def test_what_is_damaged_is_named(counted: SQLiteLog, folder: str, damage: str, kind: str, named: str) -> None:
    _filled(counted)
    _edit(folder, damage)
    problems = verify(folder, (EventCounts,)).problems
    assert any(problem.kind == kind and named in problem.message for problem in problems), problems


def test_one_damaged_event_does_not_hide_another(counted: SQLiteLog, folder: str) -> None:
    heads = _filled(counted)
    for number in (2, 4):
        _edit(folder, "UPDATE events SET body = CAST('{}' AS BLOB) WHERE number = ? AND version = 4", number)
    problems = verify(folder, (EventCounts,)).problems
    assert [heads[1].exec_id in problems[0].message, heads[3].exec_id in problems[1].message] == [True, True]
    assert len(problems) == 2


def test_verifying_changes_nothing(counted: SQLiteLog) -> None:
    _filled(counted)
    before = counted._data_version()
    verify(counted.location, (EventCounts,))
    assert counted._data_version() == before


def test_verify_reports_a_destroyed_page(counted: SQLiteLog, folder: str) -> None:
    _filled(counted)
    counted.close()
    file = Path(database_path(folder))
    content = file.read_bytes()
    for page in range(1, len(content) // 4096):
        file.write_bytes(content[: page * 4096] + b"\x5a" * 4096 + content[page * 4096 + 4096 :])
        try:
            codes = {problem.kind for problem in verify(folder, (EventCounts,)).problems}
        except KitaruBackendError as error:
            codes = {error.code}
        assert codes
        assert codes <= {"file", "event", "head", "blob", "row", "store-corrupt"}


# --- backup ------------------------------------------------------------------------------------------------------------


def test_backups_under_a_writer_are_whole_and_prefixes(counted: SQLiteLog, tmp_path: Path) -> None:
    head = start(counted)
    done = threading.Event()

    def write() -> None:
        moved = head
        number = 0
        while not done.is_set():
            number += 1
            moved = append(counted, moved, *call(number, _LARGE))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for n in range(5):
            backup(counted.location, str(tmp_path / f"copy {n}"))
    finally:
        done.set()
        writer.join()
    for n in range(5):
        target = str(tmp_path / f"copy {n}")
        assert os.listdir(target) == ["kitaru.db"]
        assert verify(target, (EventCounts,)).is_whole
        copy = SQLiteLog(target, (EventCounts,))
        versions = [recorded.version for recorded in copy.read(head.exec_id)]
        assert versions == list(range(1, len(versions) + 1))
        assert copy.store_id == counted.store_id
        copy.close()


def test_a_backup_does_not_overwrite(counted: SQLiteLog, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    with pytest.raises(KitaruUsageError):
        backup(counted.location, str(tmp_path / "full"))
    assert os.listdir(tmp_path / "full") == ["mine"]


def test_a_backup_of_nothing_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KitaruBackendError):
        backup(str(tmp_path / "absent"), str(tmp_path / "copy"))
    assert not (tmp_path / "copy").exists()


# --- what is deleted is gone -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["delete", "erase"])
def test_erased_bytes_are_in_no_file(counted: SQLiteLog, folder: str, way: str, spawn: Spawn) -> None:
    canary = b"CANARY-5b1f"
    head = append(counted, start(counted), *call(1, canary * 3000), *call(2, canary), completed(canary))
    if way == "delete":
        counted.delete(head.exec_id)
    else:
        counted.erase(head.exec_id, "me", 9)
        assert verify(folder, (EventCounts,)).is_whole
    searching = spawn(
        "import sys, pathlib\nfor file in sorted(pathlib.Path(sys.argv[1]).rglob('*')):\n"
        "    if file.is_file(): print(file.name, sys.argv[2].encode() in file.read_bytes())",
        folder,
        canary.decode(),
    )
    found = searching.communicate(timeout=30)[0].split("\n")
    assert "kitaru.db-wal False" in found
    assert [line for line in found if line.endswith("True")] == []
