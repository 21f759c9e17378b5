"""Reading changes nothing, imports nothing heavy, and follows what is written meanwhile."""

from __future__ import annotations

import hashlib
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from kitaru.client import KitaruClient
from kitaru.compose import open_log
from kitaru.domain import events as e
from kitaru.domain.errors import KitaruNotFoundError
from kitaru.settings import StoreChoice
from kitaru.store.log import EventLog
from kitaru.store.sqlite.connection import database_path
from tests.client.recording import append, completed, failure, opened, started, value, wait


def files(location: str) -> dict[str, str]:
    """The digest of each file that holds data: not of the readers' shared memory, nor of an empty log."""
    return {
        str(path.relative_to(location)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(Path(location).rglob("*"))
        if path.is_file() and path.stat().st_size and not path.name.endswith("-shm")
    }


READ = """
import sys
from kitaru.client import KitaruClient
client = KitaruClient(sys.argv[1])
for found in client.executions.list():
    client.executions.get(found.exec_id)
    client.executions.events(found.exec_id)
    for artifact in client.artifacts.list(found.exec_id):
        artifact.load()
client.executions.latest(status="failed")
client.executions.list(tags="a", where={"tier": {">=": 1}}, since="7d")
client.info()
client.close()
print("eventsourcing" in sys.modules, "duckdb" in sys.modules, "typer" in sys.modules)
"""


def fill(log: EventLog) -> None:
    append(log, started(log, tags=("a",), metadata={"tier": 1}), opened(1), completed(1, "x" * 50_000), failure())
    append(log, started(log), wait(1))


def test_no_reader_changes_a_byte(log: EventLog, client: KitaruClient) -> None:
    """R21, by another process that comes and goes while this one has the store open."""
    fill(log)
    before = files(client.store.location)
    subprocess.run([sys.executable, "-c", READ, client.store.location], check=True, capture_output=True)
    assert files(client.store.location) == before


def test_no_reader_changes_a_byte_of_a_closed_store(log: EventLog, client: KitaruClient) -> None:
    from kitaru.compose import close_logs

    fill(log)
    close_logs()
    before = files(client.store.location)
    subprocess.run([sys.executable, "-c", READ, client.store.location], check=True, capture_output=True)
    assert files(client.store.location) == before


def test_reading_imports_neither_eventsourcing_nor_duckdb_nor_typer(log: EventLog, client: KitaruClient) -> None:
    fill(log)
    ran = subprocess.run([sys.executable, "-c", READ, client.store.location], check=True, capture_output=True, text=True)
    assert ran.stdout.split() == ["False", "False", "False"]


def test_a_list_builds_no_event_class(log: EventLog, client: KitaruClient) -> None:
    fill(log)
    code = "import sys; from kitaru.client import KitaruClient; KitaruClient(sys.argv[1]).executions.list(status='failed'); "
    code += "print('kitaru.domain.events' in sys.modules, 'kitaru.store.values.decoding' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code, client.store.location], check=True, capture_output=True, text=True)
    assert ran.stdout.split() == ["False", "False"]


def test_importing_the_models_warns_of_nothing() -> None:
    code = "from kitaru.client import *; import kitaru.client.models as m; m.Execution.model_rebuild()"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_events_are_shown_with_their_values(log: EventLog, client: KitaruClient) -> None:
    head = append(log, started(log), opened(1), completed(1, {"a": [1]}))
    found = client.executions.events(head.exec_id)
    assert [event.type for event in found] == ["ExecutionStarted", "RunnerClaimed", "AttemptStarted", "CheckpointCompleted"]
    assert (found[3].version, found[3].data["output"]) == (4, {"a": [1]})


def test_a_large_value_in_an_event_is_named_by_its_digest(log: EventLog, client: KitaruClient) -> None:
    head = append(log, started(log), opened(1), completed(1, "x" * 20_000))
    shown = client.executions.events(head.exec_id)[3].data["output"]
    assert isinstance(shown, dict)
    assert sorted(shown) == ["$payload", "size"]


def test_an_erased_value_in_an_event_says_so(log: EventLog, client: KitaruClient) -> None:
    head = append(log, started(log), e.ExecutionCompleted(at=2, output=value(1)))
    log.erase(head.exec_id, "me", 3)
    shown = client.executions.events(head.exec_id)[2].data["output"]
    assert isinstance(shown, dict)
    assert sorted(shown) == ["$erased", "size"]


@pytest.mark.timeout(30)
def test_following_waits_for_what_is_written_and_ends_with_the_execution(log: EventLog, client: KitaruClient) -> None:
    head = started(log)
    seen: list[str] = []
    first = threading.Event()

    def follow() -> None:
        for event in client.executions.events(head.exec_id, follow=True):
            seen.append(event.type)
            first.set()

    reader = threading.Thread(target=follow)
    reader.start()
    first.wait()
    append(log, head, opened(1), completed(1), e.ExecutionCompleted(at=9, output=value(1)))
    reader.join()
    assert seen[-3:] == ["AttemptStarted", "CheckpointCompleted", "ExecutionCompleted"]


def test_a_store_that_is_just_being_made_has_nothing_in_it_yet(choice: StoreChoice, client: KitaruClient) -> None:
    """The process that makes it has written the file's first page, and not committed its tables."""
    Path(choice.location).mkdir()
    with closing(sqlite3.connect(database_path(choice.location))) as making:
        making.execute("PRAGMA journal_mode = WAL")
        assert client.executions.list() == []
        with pytest.raises(KitaruNotFoundError):
            client.executions.get("0")
    log = open_log(choice)
    append(log, started(log))
    assert len(client.executions.list()) == 1
