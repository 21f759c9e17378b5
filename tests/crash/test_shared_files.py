"""R36: whatever a process does with a store's files, it keeps the locks by which another process keeps its commits."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.children import ForkServer
from tests.crash.inspection import read_streams
from tests.crash.tiers import tiers

TOUCHES = (
    "back_up", "open_and_close_a_log", "ask_a_client", "look_whether_it_exists", "verify", "measure", "ask_for_leases",
    "read_plainly", "ask_statistics", "build_a_base",
)  # fmt: skip


@pytest.mark.parametrize("touch", TOUCHES)
def test_a_process_that_touches_the_files_loses_no_commit_when_another_comes_and_goes(
    touch: str, forkserver: ForkServer, folder: Path
) -> None:
    assert lost_commits(touch, forkserver, folder) == []


def test_this_test_sees_a_commit_that_is_lost(forkserver: ForkServer, folder: Path) -> None:
    """A file that is opened past SQLite drops its locks: the other process removes the WAL that this one goes on with."""
    assert lost_commits("open_past_sqlite", forkserver, folder) != []


def lost_commits(touch: str, forkserver: ForkServer, folder: Path) -> list[str]:
    """One process appends, touches the files, and appends again after another has opened and closed the store."""
    staying, coming = forkserver.start_each(
        folder, [("sharing:touch_and_append", {"touch": touch}), ("sharing:come_and_go", {})]
    )
    said = [*staying.finish(), *coming.finish()]
    streams = read_streams(folder)
    return [
        line["exec_id"]
        for line in said
        if line["exec_id"] not in streams or streams[line["exec_id"]].version < line["version"]
    ]


@tiers("seconds", 4, 120)
def test_two_processes_with_backups_and_readers_lose_no_commit(
    seconds: int, seed: int, forkserver: ForkServer, folder: Path
) -> None:
    each = [{"seconds": seconds, "seed": seed + number} for number in range(2)]
    said = [
        line for child in forkserver.start_all("sharing:append_among_touches", folder, each) for line in child.finish(300)
    ]
    streams = read_streams(folder)
    assert len(said) == 4
    for line in said:
        assert streams[line["exec_id"]].version == line["version"] > 10
