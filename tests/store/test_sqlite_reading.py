"""Reading changes nothing, and a file that is not whole is refused in words."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import stat
import threading
import tracemalloc
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from kitaru.domain.errors import KitaruBackendError, KitaruError, KitaruNotFoundError, KitaruUsageError
from kitaru.domain.events import EventBase
from kitaru.store.read import SLICE, open_store
from kitaru.store.sqlite.connection import database_path
from kitaru.store.sqlite.log import SQLiteLog
from kitaru.testing import append, call, completed, start

Spawn = Callable[..., Any]


def _digests(folder: str) -> dict[str, str]:
    """Of the database and its WAL; `-shm` is SQLite's scratch memory. Only while no connection of this process is open."""
    names = sorted(name for name in os.listdir(folder) if name.startswith("kitaru.db") and not name.endswith("-shm"))
    return {name: sha256(Path(folder, name).read_bytes()).hexdigest() for name in names}


@pytest.fixture
def left_behind(folder: str, spawn: Spawn) -> str:
    """A store whose writer was killed: its last events are in the WAL only."""
    child = spawn(
        "import sys, os\nfrom kitaru.store.sqlite.log import SQLiteLog\n"
        "from kitaru.testing import append, call, completed, start\n"
        "log = SQLiteLog(sys.argv[1]); start(log); append(log, start(log), *call(1), completed())\n"
        "os.kill(os.getpid(), 9)",
        folder,
    )
    child.wait(30)
    return folder


def test_importing_the_reader_imports_no_eventsourcing_and_no_events(spawn: Spawn) -> None:
    child = spawn(
        "import sys, kitaru.store.read; print([m for m in sys.modules if 'eventsourcing' in m or 'pydantic' in m])"
    )
    assert child.communicate(timeout=30)[0] == "[]\n"


def test_reading_leaves_every_byte_as_it_is(left_behind: str) -> None:
    before = _digests(left_behind)
    assert set(before) == {"kitaru.db", "kitaru.db-wal"}
    reader = open_store(left_behind)
    for exec_id in reader.find_ids(""):
        assert list(reader.read(exec_id))
    reader.tail()
    reader.query("SELECT count(*) FROM streams")
    with reader.snapshot() as moment:
        moment.last_position()
    reader.close()
    assert _digests(left_behind) == before


def test_a_reader_sees_what_is_committed_after_it_was_opened(log: SQLiteLog) -> None:
    reader = open_store(log.location)
    head = start(log)
    assert reader.head(head.exec_id).version == 2
    reader.close()


def test_a_snapshot_does_not_see_what_is_committed_later(log: SQLiteLog) -> None:
    head = start(log)
    with log.snapshot() as moment:
        assert moment.head(head.exec_id).version == 2
        append(log, head, *call(1))
        assert moment.head(head.exec_id).version == 2
        assert [r.version for r in moment.read(head.exec_id)] == [1, 2]
    assert log.head(head.exec_id).version == 4


def test_a_read_in_the_middle_of_which_events_are_appended_gives_those_that_were_there(log: SQLiteLog) -> None:
    head = append(log, start(log), *call(1))
    reading = log.read(head.exec_id)
    next(reading)
    append(log, head, *call(2))
    assert [r.version for r in reading] == [2, 3, 4]


def test_a_read_in_the_middle_of_which_the_execution_is_deleted_says_so(log: SQLiteLog) -> None:
    head = start(log)
    head = append(log, head, *(event for number in range(1, SLICE) for event in call(number)), completed())
    reading = log.read(head.exec_id)
    next(reading)
    log.delete(head.exec_id)
    with pytest.raises(KitaruNotFoundError):
        list(reading)


def test_a_read_in_the_middle_of_which_the_payloads_are_erased_goes_on(log: SQLiteLog) -> None:
    head = start(log)
    head = append(log, head, *(event for number in range(1, SLICE) for event in call(number)), completed())
    reading = log.read(head.exec_id)
    next(reading)
    log.erase(head.exec_id, "me", 9)
    assert [r.version for r in reading][-1] == head.version


def test_a_read_that_is_given_up_keeps_no_connection(log: SQLiteLog) -> None:
    head = append(log, start(log), *call(1))
    list(log.read(head.exec_id))
    before = len(os.listdir("/dev/fd"))
    for _ in range(20):
        next(log.read(head.exec_id))
    assert len(os.listdir("/dev/fd")) == before


def test_a_read_only_folder_is_read(left_behind: str, spawn: Spawn) -> None:
    code = (
        "import os, sys\n"
        "from kitaru.store.read import open_store\nfrom kitaru.store.sqlite.log import SQLiteLog\n"
        "from kitaru.domain.errors import KitaruBackendError\n"
        "import kitaru.store.rows\n"
        "if os.geteuid() == 0: os.setegid(65534); os.seteuid(65534)\n"
        "reader = open_store(sys.argv[1]); ids = reader.find_ids('')\n"
        "print(sum(1 for i in ids for _ in reader.read(i)))\n"
        "reader.close()\n"
        "try: SQLiteLog(sys.argv[1])\n"
        "except KitaruBackendError as error: print(error.code)\n"
    )
    _open_path(left_behind)
    os.chmod(left_behind, 0o555)
    for name in os.listdir(left_behind):
        if os.path.isfile(os.path.join(left_behind, name)):
            os.chmod(os.path.join(left_behind, name), 0o444)
    child = spawn(code, left_behind)
    out, err = child.communicate(timeout=30)
    os.chmod(left_behind, 0o755)
    assert out == "7\nstore-read-only\n", err


def test_a_read_only_folder_without_wal_is_read(folder: str, spawn: Spawn) -> None:
    log = SQLiteLog(folder)
    append(log, start(log), *call(1))
    log.close()
    _open_path(folder)
    os.chmod(folder, 0o555)
    os.chmod(database_path(folder), 0o444)
    child = spawn(
        "import os, sys\nfrom kitaru.store.read import open_store\nimport kitaru.store.rows, kitaru.store.heads\n"
        "from kitaru.store.sqlite.verify import verify\n"
        "if os.geteuid() == 0: os.setegid(65534); os.seteuid(65534)\n"
        "reader = open_store(sys.argv[1]); print(sum(1 for i in reader.find_ids('') for _ in reader.read(i)))\n"
        "report = verify(sys.argv[1]); print(report.events, report.is_whole)\n",
        folder,
    )
    out, err = child.communicate(timeout=30)
    os.chmod(folder, 0o755)
    assert out == "4\n4 True\n", err


def _open_path(folder: str) -> None:
    """Let another user come as far as the folder."""
    path = Path(folder)
    while path != Path("/tmp") and path != path.parent:
        path.chmod(path.stat().st_mode | 0o055)
        path = path.parent


# --- what cannot be opened -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opening", [open_store, SQLiteLog])
def test_a_store_of_a_newer_format_says_upgrade(folder: str, opening: Callable[[str], object]) -> None:
    SQLiteLog(folder).close()
    connection = sqlite3.connect(database_path(folder))
    connection.execute("PRAGMA user_version = 2")
    connection.close()
    with pytest.raises(KitaruBackendError, match="upgrade") as caught:
        opening(folder)
    assert caught.value.code == "store-too-new"


@pytest.mark.parametrize("content", [b"not a database at all" * 100, b"\0" * 8192], ids=["text", "zeros"])
@pytest.mark.parametrize("opening", [open_store, SQLiteLog])
def test_a_file_that_is_no_database_is_refused(folder: str, content: bytes, opening: Callable[[str], object]) -> None:
    os.mkdir(folder)
    Path(database_path(folder)).write_bytes(content)
    with pytest.raises(KitaruBackendError) as caught:
        opening(folder)
    assert caught.value.code == "store-corrupt"
    assert Path(database_path(folder)).read_bytes() == content


@pytest.mark.parametrize("opening", [open_store, SQLiteLog])
def test_a_database_of_another_program_is_refused_and_left_alone(folder: str, opening: Callable[[str], object]) -> None:
    os.mkdir(folder)
    connection = sqlite3.connect(database_path(folder))
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    before = _digests(folder)
    with pytest.raises(KitaruBackendError, match="not one of kitaru"):
        opening(folder)
    assert _digests(folder) == before


@pytest.mark.parametrize("opening", [open_store, SQLiteLog])
def test_tables_that_are_not_what_they_were_are_refused(folder: str, opening: Callable[[str], object]) -> None:
    """`INUEGER PRIMARY KEY` is no row id: every position would be read as NULL."""
    SQLiteLog(folder).close()
    connection = sqlite3.connect(database_path(folder))
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute(
        "UPDATE sqlite_master SET sql = replace(sql, 'position INTEGER', 'position INUEGER') WHERE name = 'events'"
    )
    connection.commit()
    connection.close()
    with pytest.raises(KitaruBackendError) as caught:
        opening(folder)
    assert caught.value.code == "store-corrupt"


def test_an_absent_store_is_not_made_by_reading(folder: str) -> None:
    with pytest.raises(KitaruBackendError) as caught:
        open_store(folder)
    assert caught.value.code == "store-absent"
    assert not os.path.exists(folder)


def test_an_empty_file_left_by_a_creator_that_died_is_made_a_store(folder: str) -> None:
    os.mkdir(folder)
    Path(database_path(folder)).touch()
    with pytest.raises(KitaruBackendError):
        open_store(folder)
    log = SQLiteLog(folder)
    start(log)
    log.close()


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(KitaruError):
            SQLiteLog(str(path))


def test_a_path_with_a_nul_is_refused() -> None:
    for opening in (open_store, SQLiteLog):
        with pytest.raises(KitaruError):
            opening("a\0b")


@pytest.mark.parametrize("name", ["a?mode=memory", "a#b", "a%20b", "ä b", "a'b\"c"])
def test_a_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    log = SQLiteLog(str(tmp_path / name))
    head = start(log)
    log.close()
    assert os.path.exists(tmp_path / name / "kitaru.db")
    reader = open_store(str(tmp_path / name))
    assert reader.find_ids("") == [head.exec_id]
    reader.close()


# --- what is damaged -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, list[EventBase]]]:
    """A closed store and what it holds."""
    folder = str(tmp_path_factory.mktemp("sound") / "store")
    log = SQLiteLog(folder)
    heads = [start(log) for _ in range(4)]
    for n, head in enumerate(heads):
        for number in range(1, 12):
            head = append(log, head, *call(number, b"output" * number))
        append(log, head, completed(b"x" * 20_000 * (n % 2)))
    held = {head.exec_id: [r.event for r in log.read(head.exec_id)] for head in heads}
    log.close()
    return folder, held


def _check_nothing_wrong(folder: str, held: dict[str, list[EventBase]]) -> bool:
    """Every event that is given is right; True when all were given. Anything but a typed error fails."""
    is_whole = True
    try:
        reader = open_store(folder)
    except KitaruError:
        return False
    for exec_id, events in held.items():
        given: list[EventBase] = []
        try:
            given.extend(r.event for r in reader.read(exec_id))
            assert given == events
            end = events[-1]
            assert len(reader.load(end.output)) == end.output.size  # type: ignore[attr-defined]
        except KitaruError:
            is_whole = False
        assert given == events[: len(given)]
    try:
        for recorded in reader.tail():
            assert recorded.event == held[recorded.exec_id][recorded.version - 1]
    except KitaruError:
        is_whole = False
    reader.close()
    return is_whole


def test_a_flipped_bit_never_changes_a_value_without_an_error(
    sound: tuple[str, dict[str, list[EventBase]]], tmp_path: Path
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    folder, held = sound
    copy = tmp_path / "copy"
    copy.mkdir()
    file = copy / "kitaru.db"
    content = Path(database_path(folder)).read_bytes()
    seen = 0
    for _ in range(150):
        damaged = bytearray(content)
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        file.write_bytes(damaged)
        seen += not _check_nothing_wrong(str(copy), held)
    assert seen > 0


@pytest.mark.parametrize("part", [0, 0.1, 0.3, 0.5, 0.8, 0.99])
def test_a_truncated_file_is_refused_or_reported(
    sound: tuple[str, dict[str, list[EventBase]]], tmp_path: Path, part: float
) -> None:
    folder, held = sound
    shutil.copytree(folder, tmp_path / "copy")
    file = tmp_path / "copy" / "kitaru.db"
    os.truncate(file, int(file.stat().st_size * part))
    assert not _check_nothing_wrong(str(tmp_path / "copy"), held)


def test_zeroed_pages_are_refused_or_reported(sound: tuple[str, dict[str, list[EventBase]]], tmp_path: Path) -> None:
    folder, held = sound
    content = Path(database_path(folder)).read_bytes()
    (tmp_path / "copy").mkdir()
    for start_ in range(0, len(content), 4096):
        damaged = content[:start_] + bytes(4096) + content[start_ + 4096 :]
        (tmp_path / "copy" / "kitaru.db").write_bytes(damaged)
        _check_nothing_wrong(str(tmp_path / "copy"), held)


# --- limits and leaks ----------------------------------------------------------------------------------------------------


def test_reading_takes_the_same_memory_for_ten_times_the_events(folder: str) -> None:
    log = SQLiteLog(folder, durability="os")

    def written(calls: int) -> str:
        head = start(log)
        for number in range(1, calls + 1, 50):
            head = append(log, head, *(event for n in range(number, number + 50) for event in call(n)))
        return head.exec_id

    def peak(exec_id: str) -> int:
        tracemalloc.start()
        for _ in log.read(exec_id):
            pass
        memory = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return memory

    few, many = written(1000), written(10_000)
    peak(many)  # pydantic keeps the short texts that it met, up to a fixed number
    assert peak(many) <= 1.5 * peak(few)
    log.close()


def test_fifty_open_close_cycles_leave_nothing_open(folder: str) -> None:
    def cycle() -> None:
        log = SQLiteLog(folder)
        log.leases.acquire()
        head = append(log, start(log), *call(1))
        list(log.read(head.exec_id))
        log.changes.wait(log.changes.token(), 0.001)
        log.close()

    cycle()
    descriptors, threads = len(os.listdir("/dev/fd")), threading.active_count()
    for _ in range(50):
        cycle()
    assert len(os.listdir("/dev/fd")) <= descriptors + 2
    assert threading.active_count() <= threads + 2


def test_files_are_the_owners_alone(folder: str) -> None:
    before = os.umask(0)
    try:
        log = SQLiteLog(folder)
        start(log)
        log.leases.acquire()
        modes = {
            os.path.relpath(os.path.join(where, name), folder): stat.S_IMODE(os.stat(os.path.join(where, name)).st_mode)
            for where, folders, files in os.walk(folder)
            for name in (*folders, *files)
        }
        log.close()
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    assert modes.pop("runners") == 0o700
    assert set(modes.values()) == {0o600}


def test_threads_read_while_a_thread_writes(log: SQLiteLog) -> None:
    head = start(log)
    done = threading.Event()
    errors: list[BaseException] = []

    def read() -> None:
        try:
            last = 0
            while not done.is_set():
                versions = [r.version for r in log.read(head.exec_id)]
                assert versions == list(range(1, len(versions) + 1))
                assert len(versions) >= last
                last = len(versions)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    moved = head
    for number in range(1, 60):
        moved = append(log, moved, *call(number))
    done.set()
    for thread in threads:
        thread.join()
    assert errors == []


def test_a_reader_that_is_closed_refuses(log: SQLiteLog) -> None:
    reader = open_store(log.location)
    reader.close()
    with pytest.raises(KitaruUsageError):
        reader.find_ids("")
