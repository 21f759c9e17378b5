"""R11: a disk that is full. R12: one that reports errors. And the power cut: what was acknowledged had been synced."""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.crash.children import Child, ForkServer
from tests.crash.inspection import read_streams
from tests.crash.tiers import tiers

WRITE, SYNC = 1, 2
FULL = {"disk-full"}
FAILING = {"disk-full", "store-io", "unknown", "store-unreachable"}
FAILING_CALLS = 50
POINTS = 20
SMALLEST, LARGEST = 4 * 1024, 5 * 1024 * 1024


@pytest.mark.parametrize("point", range(POINTS))
def test_a_file_that_may_not_grow_is_a_typed_error_and_loses_nothing(
    point: int, forkserver: ForkServer, folder: Path
) -> None:
    limit = round(SMALLEST * (LARGEST / SMALLEST) ** (point / (POINTS - 1)))
    opening, end = forkserver.run("failing:grow_past", folder, limit=limit, filler=9_000 if limit < 500_000 else 60_000)
    assert opening["opening"] in (None, "disk-full", "store-unreachable", "store-io"), opening
    assert opening["opening"] is None or limit < 200_000, "an empty store is smaller than that"
    assert set(end["codes"]) <= FULL
    check_account(end, folder)


def test_a_full_disk_is_a_typed_error_and_loses_nothing(forkserver: ForkServer, folder: Path) -> None:
    end = forkserver.run("failing:fill_small_disk", folder, size="2m", filler=30_000)[-1]
    if "not_permitted" in end:
        pytest.skip(f"no small file system can be mounted here: {end['not_permitted']}")
    assert set(end["codes"]) == FULL
    check_account(end, folder)


@pytest.mark.parametrize("sticky", [False, True], ids=["once", "from_then_on"])
@pytest.mark.parametrize("kind", [WRITE, SYNC], ids=["write", "sync"])
def test_an_error_of_the_disk_loses_nothing_and_leaves_no_phantom(
    kind: int, sticky: bool, shimmed: ForkServer, tmp_path: Path
) -> None:
    failed = 0
    for at in range(1, FAILING_CALLS + 1, 1 if not sticky else 5):
        folder = tmp_path / f"{at}"
        folder.mkdir()
        batches = 4 + at // (4 if kind == WRITE else 1)
        fault, end = shimmed.run("failing:with_errors", folder, kinds=kind, at=at, sticky=sticky, batches=batches)
        assert set(end["codes"]) <= FAILING, end["codes"]
        assert bool(fault["failed"]) == bool(end["codes"]) == fault["is_discarded"], (at, fault, end)
        failed += bool(fault["failed"])
        check_account(end, folder)
    assert failed >= 0.9 * len(range(1, FAILING_CALLS + 1, 1 if not sticky else 5)), "the shim hit too little"


def check_account(end: dict[str, Any], folder: Path) -> None:
    """What was acknowledged is there; what was refused is not, and nothing is that the writer does not know."""
    streams = read_streams(folder)
    for exec_id, version in end["acknowledged"].items():
        assert streams[exec_id].version >= version
    assert streams[end["exec_id"]].version == end["version"]
    there = {event.event_id for stream in streams.values() for event in stream.events}
    assert not there & set(end["refused"]), "an append that was refused is there all the same"


def test_an_outcome_is_synced_once_and_an_attempt_never(shimmed: ForkServer, folder: Path) -> None:
    said = shimmed.run("failing:count_syncs", folder, batches=60)
    assert Counter(line["started"][0] for line in said) == {0: 60}
    assert Counter(tuple(line["completed"]) for line in said) == {(1, 0): 60}, "(syncs, writes that no sync followed)"


def test_outcomes_of_threads_share_a_sync_and_none_goes_without(shimmed: ForkServer, folder: Path) -> None:
    said = shimmed.run("failing:count_syncs_of_threads", folder, threads=8, batches=20)[-1]
    assert said["unsynced"] == 0
    assert 20 <= said["syncs"] <= said["outcomes"]


@tiers("cuts", 30, 300, 3_000)
def test_a_power_cut_takes_back_nothing_that_was_acknowledged_as_an_outcome(
    cuts: int, chance: random.Random, shimmed: ForkServer, folder: Path
) -> None:
    durable = folder / "durable"
    durable.mkdir()
    acknowledged: dict[str, int] = {}
    taken_back = 0
    for _ in range(cuts):
        child = shimmed.start(
            "failing:forgetting", folder, threads=chance.randint(1, 3), seed=chance.getrandbits(32), durable=str(durable)
        )
        if chance.random() < 0.9:
            child.await_line()
        time.sleep(chance.uniform(0, 0.05))
        child.kill()
        before = (folder / "store" / "kitaru.db-wal").stat().st_size if (folder / "store" / "kitaru.db-wal").exists() else 0
        cut_power(folder / "store", durable, chance)
        after = (folder / "store" / "kitaru.db-wal").stat().st_size if (folder / "store" / "kitaru.db-wal").exists() else 0
        taken_back += after < before
        acknowledged |= outcomes_of(child)
        if acknowledged:
            streams = read_streams(folder)
            for exec_id, version in acknowledged.items():
                assert exec_id in streams, f"the acknowledged execution {exec_id} is gone"
                assert streams[exec_id].version >= version
    assert len(acknowledged) > cuts / 2


def outcomes_of(child: Child) -> dict[str, int]:
    """The latest version of each execution that was acknowledged as being on disk."""
    return {line["exec_id"]: line["version"] for line in child.said() if line["outcome"]}


def cut_power(store: Path, durable: Path, chance: random.Random) -> None:
    """Leave of each file what had been synced, or, as the disk pleases, all that had been written. Creating and removing
    files counts as done.
    """
    for copy in list(durable.iterdir()):
        if not (store / copy.name).exists():
            copy.unlink()
    for path in list(store.iterdir()):
        if path.name.endswith("-shm"):
            path.unlink()
        elif path.name.startswith("kitaru.db"):
            if (durable / path.name).exists():
                if chance.random() < 0.7:
                    shutil.copyfile(durable / path.name, path)
            elif chance.random() < 0.7:
                path.write_bytes(b"")
            shutil.copyfile(path, durable / path.name)
