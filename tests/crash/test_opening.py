"""R31 and the stores that cannot be had: made by many at once, used after a fork, too new, damaged, not writable."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.crash.children import ForkServer
from tests.crash.inspection import read_streams
from tests.crash.tiers import tiers

CYCLES = 50
CREATORS = 8
READERS = 3
COMMANDS = [
    ["status"], ["executions", "list"], ["executions", "latest"], ["executions", "events", "0"], ["recover"],
    ["store", "info"], ["store", "verify"], ["store", "rebuild"], ["store", "backup", "copy-by-command"],
    ["run", str(Path(__file__).parent / "programs" / "flows.py") + ":chain", "--input", '{"length": 1}'],
]  # fmt: skip


@tiers("rounds", 10, 200)
def test_processes_that_make_one_store_at_once_all_run_on_it(rounds: int, forkserver: ForkServer, tmp_path: Path) -> None:
    for number in range(rounds):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        environment = {"CRASH_LEDGER": str(folder / "ledger")}
        children = forkserver.start_all("opening:create_and_run", folder, [{}] * CREATORS, environment)
        said = [child.finish()[-1] for child in children]
        assert len({line["store_id"] for line in said}) == 1
        assert {line["value"] for line in said} == {962}
        assert read_streams(folder).keys() == {line["exec_id"] for line in said}


@tiers("stores", 50, 1_000)
def test_who_reads_while_a_store_is_being_made_finds_it_empty_or_whole(
    stores: int, forkserver: ForkServer, folder: Path
) -> None:
    looking = [("opening:look_at_stores", {"stores": stores})] * READERS
    for child in forkserver.start_each(folder, [("opening:make_stores", {"stores": stores}), *looking]):
        assert child.finish() == []


def test_a_store_that_is_opened_again_and_again_leaks_no_descriptor_and_no_thread(
    forkserver: ForkServer, folder: Path
) -> None:
    early, late = forkserver.run("opening:open_and_close", folder, {"CRASH_LEDGER": str(folder / "ledger")}, cycles=CYCLES)
    assert late["descriptors"] <= early["descriptors"] + 2
    assert late["threads"] <= early["threads"] + 2
    assert len(list((folder / "store" / "runners").iterdir())) == 0


def test_the_store_is_for_its_owner_only(forkserver: ForkServer, folder: Path) -> None:
    (said,) = forkserver.run("opening:list_modes", folder, {"CRASH_LEDGER": str(folder / "ledger")})
    modes = said["modes"]
    assert {modes.pop("store"), modes.pop("store/runners")} == {"0o700"}
    assert set(modes.values()) == {"0o600"}
    assert {"store/kitaru.db", "store/kitaru.db-wal", "store/kitaru.db-shm", "store/write.lock"} <= modes.keys()
    assert len(modes) == 5, "and one lease"


def test_a_store_is_not_usable_after_a_fork_and_the_parent_notices_nothing(forkserver: ForkServer, folder: Path) -> None:
    said = forkserver.run("opening:use_after_fork", folder, {"CRASH_LEDGER": str(folder / "ledger")})
    tried = {line["tried"]: line for line in said if "tried" in line}
    assert tried.keys() == {"append", "run", "read", "list", "open", "recover"}
    for line in tried.values():
        assert (line.get("error"), line.get("code")) == ("KitaruUsageError", "store-after-fork"), line
        assert "spawn" in line["message"]
    streams = read_streams(folder)
    assert streams[said[-1]["exec_id"]].version == said[-1]["version"]
    assert said[-1]["ran"] == 962


Damage = Callable[[Path], None]


def too_new(store: Path) -> None:
    with closing(sqlite3.connect(store / "kitaru.db")) as connection:
        connection.execute("PRAGMA user_version = 99")


def random_bytes(store: Path) -> None:
    (store / "kitaru.db").write_bytes(os.urandom(20_000))


def a_text(store: Path) -> None:
    (store / "kitaru.db").write_text("this is no database\n" * 100)


def another_database(store: Path) -> None:
    (store / "kitaru.db").unlink()
    with closing(sqlite3.connect(store / "kitaru.db")) as connection:
        connection.execute("CREATE TABLE notes (text)")
        connection.commit()


def a_folder(store: Path) -> None:
    (store / "kitaru.db").unlink()
    (store / "kitaru.db").mkdir()


def no_tables(store: Path) -> None:
    with closing(sqlite3.connect(store / "kitaru.db")) as connection:
        for (name,) in connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        ).fetchall():
            connection.execute(f"DROP TABLE {name}")
        connection.commit()


def cut_in_half(store: Path) -> None:
    os.truncate(store / "kitaru.db", (store / "kitaru.db").stat().st_size // 2)


def a_file_in_its_place(store: Path) -> None:
    shutil.rmtree(store)
    store.write_text("no folder")


BROKEN: dict[Damage, set[str]] = {
    too_new: {"store-too-new"},
    random_bytes: {"store-corrupt"},
    a_text: {"store-corrupt"},
    another_database: {"store-corrupt"},
    a_folder: {"store-unreachable", "store-corrupt", "store-io"},
    no_tables: {"store-corrupt"},
    cut_in_half: {"store-corrupt"},
    a_file_in_its_place: {"store-unreachable"},
}


@pytest.mark.parametrize("damage", BROKEN, ids=lambda damage: damage.__name__)
def test_a_store_that_cannot_be_opened_is_a_typed_error_in_every_use(
    damage: Damage, forkserver: ForkServer, folder: Path
) -> None:
    make_store(forkserver, folder)
    damage(folder / "store")
    before = contents(folder / "store")
    tried, commands = try_everything(forkserver, folder)
    for line in tried:
        if line.get("result") is None:
            assert line["code"] in BROKEN[damage] | {"not-found"}, line
    refused = {line["tried"] for line in tried if line.get("code") in BROKEN[damage]}
    assert refused >= ({"run", "open"} if damage is a_file_in_its_place else {"run", "open", "recover", "list", "get"}), (
        tried
    )
    assert [line["code"] for line in commands if line["command"][0] == "run"] == [5]
    check_commands(commands)
    if damage in (too_new, random_bytes, a_text, another_database, a_folder, a_file_in_its_place):
        assert contents(folder / "store") == before, "it was written to"


def test_a_store_that_may_not_be_written_is_read_and_says_so_to_writers(forkserver: ForkServer, folder: Path) -> None:
    make_store(forkserver, folder)
    with read_only(folder / "store"):
        before = contents(folder / "store")
        tried, commands = try_everything(forkserver, folder, powerless=True)
        assert contents(folder / "store") == before
    by_name = {line["tried"]: line for line in tried}
    for name in ("run", "open"):
        assert by_name[name].get("code") == "store-read-only", by_name[name]
    assert by_name["list"] == {"tried": "list", "result": "1"}
    assert by_name["get"] == {"tried": "get", "result": "'completed'"}
    check_commands(commands)
    assert {line["command"][0]: line["code"] for line in commands}["run"] == 5


def make_store(forkserver: ForkServer, folder: Path) -> None:
    """One execution in it, and nothing in the WAL."""
    forkserver.run("running:run", folder, {"CRASH_LEDGER": str(folder / "ledger")}, flow="chain", inputs={"length": 2})
    with closing(sqlite3.connect(folder / "store" / "kitaru.db")) as connection:
        assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0)


def try_everything(
    forkserver: ForkServer, folder: Path, powerless: bool = False
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What the library's calls came to, and the commands."""
    child = forkserver.start(
        "opening:try_everything", folder, {"CRASH_LEDGER": str(folder / "ledger")}, commands=COMMANDS, powerless=powerless
    )
    said = child.finish()
    if "not_possible" in said[0]:
        pytest.skip(f"not tested here: {said[0]['not_possible']}")
    assert "Traceback" not in child.trouble()
    return [line for line in said if "tried" in line], [line for line in said if "command" in line]


def check_commands(commands: list[dict[str, Any]]) -> None:
    """Documented exit codes, a message when it is not 0, and no traceback."""
    assert len(commands) == len(COMMANDS)
    for line in commands:
        assert line["code"] in (0, 1, 2, 3, 4, 5), line
        assert "Traceback" not in line["output"] + line["errors"], line
        assert line["code"] == 0 or (line["errors"] + line["output"]).strip(), f"{line['command']} says nothing"


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every file's bytes. Files that readers share memory by, and locks, are nobody's data."""
    if folder.is_file():
        return {"": folder.read_bytes()}
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
        if not path.name.endswith(("-shm", "-wal", ".lock")) and path.name != "runners"
    }


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nobody may write in it but who may everything."""
    for path in [*folder.rglob("*"), folder]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
