"""Leases: a runner lives as long as its process does, and shows it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from kitaru.store.leases import FileLeases
from kitaru.store.sqlite.log import SQLiteLog

Spawn = Callable[..., Any]

_RUNNER = (
    "import sys, time\nfrom kitaru.store.leases import FileLeases\n"
    "leases = FileLeases(sys.argv[1], float(sys.argv[2])); print(leases.acquire(), flush=True); sys.stdin.readline()"
)


@pytest.fixture
def store(tmp_path: Path) -> str:
    return str(tmp_path)


def _runner(spawn: Spawn, store: str, seconds: float = 30.0) -> tuple[Any, str]:
    child = spawn(_RUNNER, store, str(seconds))
    return child, child.stdout.readline().strip()


def test_a_runner_of_another_process_is_alive_until_it_is_killed(store: str, spawn: Spawn) -> None:
    child, runner = _runner(spawn, store)
    leases = FileLeases(store)
    assert leases.is_alive(runner)
    child.kill()
    child.wait()
    assert not leases.is_alive(runner)


def test_a_runner_that_is_stopped_past_its_lease_is_lost_and_found_again(store: str, spawn: Spawn) -> None:
    child, runner = _runner(spawn, store, 0.3)
    leases = FileLeases(store)
    assert leases.is_alive(runner)
    os.kill(child.pid, signal.SIGSTOP)
    deadline = time.monotonic() + 10
    while leases.is_alive(runner):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGCONT)
    while not leases.is_alive(runner):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_heartbeat_keeps_a_lease_longer_than_its_seconds(store: str, spawn: Spawn) -> None:
    _, runner = _runner(spawn, store, 0.3)
    leases = FileLeases(store)
    end = time.monotonic() + 1
    while time.monotonic() < end:
        assert leases.is_alive(runner)
        time.sleep(0.02)


def test_how_long_a_lease_lasts_is_its_holders_to_say(store: str, spawn: Spawn) -> None:
    _, runner = _runner(spawn, store, 60)
    os.utime(Path(store, "runners", runner + ".lock"), (time.time() - 40, time.time() - 40))
    assert FileLeases(store, 1).is_alive(runner)


def test_asking_twice_at_once_does_not_look_like_a_holder(store: str, spawn: Spawn) -> None:
    child, runner = _runner(spawn, store)
    child.kill()
    child.wait()
    asking = [
        spawn(
            "import sys\nfrom kitaru.store.leases import FileLeases\nleases = FileLeases(sys.argv[1])\n"
            "print(any(leases.is_alive(sys.argv[2]) for _ in range(3000)))",
            store,
            runner,
        )
        for _ in range(2)
    ]
    assert [child.communicate(timeout=60)[0] for child in asking] == ["False\n"] * 2


def test_logs_of_one_folder_share_the_lease_and_keep_its_lock(tmp_path: Path, spawn: Spawn) -> None:
    """A second descriptor of the lock file, closed, would drop the lock."""
    folder = str(tmp_path / "store")
    first, second = SQLiteLog(folder), SQLiteLog(folder)
    runner = first.leases.acquire()
    assert second.leases.acquire() == runner
    assert second.leases.is_alive(runner)
    second.close()
    child = spawn(
        "import sys\nfrom kitaru.store.leases import FileLeases\nprint(FileLeases(sys.argv[1]).is_alive(sys.argv[2]))",
        folder,
        runner,
    )
    assert child.communicate(timeout=30)[0] == "True\n"
    first.close()
    assert not FileLeases(folder).is_alive(runner)


def test_a_forked_child_does_not_hold_its_parents_lease(store: str, spawn: Spawn) -> None:
    parent = spawn(
        "import os, sys, time\nfrom kitaru.store.leases import FileLeases\n"
        "leases = FileLeases(sys.argv[1]); runner = leases.acquire()\n"
        "pid = os.fork()\n"
        "if pid == 0: time.sleep(60); os._exit(0)\n"
        "print(runner, pid, flush=True); time.sleep(60)",
        store,
    )
    runner, child = parent.stdout.readline().split()
    leases = FileLeases(store)
    assert leases.is_alive(runner)
    parent.kill()
    parent.wait()
    try:
        assert not leases.is_alive(runner)
    finally:
        os.kill(int(child), signal.SIGKILL)


def test_a_released_lease_leaves_no_file_and_a_new_one_has_a_new_name(store: str) -> None:
    leases = FileLeases(store)
    runner = leases.acquire()
    leases.release()
    assert os.listdir(Path(store, "runners")) == []
    assert leases.acquire() != runner
    leases.release()


def test_files_of_dead_runners_are_swept(store: str, spawn: Spawn) -> None:
    alive = _runner(spawn, store)[1]
    child, _ = _runner(spawn, store)
    child.kill()
    child.wait()
    leases = FileLeases(store)
    runner = leases.acquire()
    assert sorted(os.listdir(Path(store, "runners"))) == sorted([alive + ".lock", runner + ".lock"])
    leases.release()


@pytest.mark.parametrize(
    "name",
    [
        "../../secret",
        "/etc/passwd",
        "",
        "a\0b",
        "..",
        "x" * 10_000,
        "{}\n",
        "\ud800",
        "E162849A-06A8-4183-8B74-8ECCA1FB6764",
    ],
)
def test_what_is_no_runner_id_makes_no_path(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.lock").write_text("30\n")
    store = tmp_path / "a" / "b"
    store.mkdir(parents=True)
    assert not FileLeases(str(store)).is_alive(name)


def test_a_name_does_not_lead_to_a_lease_of_another_store(tmp_path: Path, spawn: Spawn) -> None:
    stores = [tmp_path / "one", tmp_path / "two"]
    for store in stores:
        (store / "runners").mkdir(parents=True)
    _, runner = _runner(spawn, str(stores[1]))
    assert FileLeases(str(stores[1])).is_alive(runner)
    assert not FileLeases(str(stores[0])).is_alive(f"../../two/runners/{runner}")


def test_a_link_in_the_place_of_a_lease_is_not_followed(store: str, spawn: Spawn) -> None:
    _, runner = _runner(spawn, store)
    name = str(uuid4())
    os.symlink(Path(store, "runners", runner + ".lock"), Path(store, "runners", name + ".lock"))
    assert not FileLeases(store).is_alive(name)


@pytest.mark.parametrize("text", ["", "nan", "soon", "\0"])
def test_a_lease_that_says_nonsense_is_not_alive(store: str, spawn: Spawn, text: str) -> None:
    _, runner = _runner(spawn, store)
    Path(store, "runners", runner + ".lock").write_text(text)
    assert not FileLeases(store).is_alive(runner)


def test_the_environment_says_how_long_a_lease_lasts(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KITARU_LEASE_SECONDS", "7.5")
    leases = FileLeases(store)
    runner = leases.acquire()
    assert Path(store, "runners", runner + ".lock").read_text() == "7.5\n"
    leases.release()
