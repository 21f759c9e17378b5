"""What `kitaru.testing` gives to tests of flows: a store and a clock for a while."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from kitaru import KitaruClient, checkpoint, flow
from kitaru.runtime.clock import installed
from kitaru.settings import configured, resolve_store
from kitaru.testing import fake_clock, temporary_store
from tests.runtime.crashing import PATIENCE


@checkpoint
def slowly(x: int) -> int:
    time.sleep(0.05)
    return x


@flow
def napping(x: int) -> int:
    return slowly(x)


@checkpoint(retries=1, retry_delay=3600)
def second_time(tries: Path) -> int:
    tries.write_text(tries.read_text() + "x" if tries.exists() else "x")
    if len(tries.read_text()) < 2:
        raise LookupError
    return 2


@flow
def patient(tries: Path) -> int:
    return second_time(tries)


def test_a_temporary_store_is_used_and_goes_away(store: Path) -> None:
    with temporary_store() as folder:
        assert resolve_store().location == str(folder)
        assert napping.run(3).wait(PATIENCE) == 3
        assert len(KitaruClient().executions.list()) == 1
    assert not folder.parent.exists()
    assert resolve_store().location == str(store)
    assert KitaruClient().executions.list() == []


def test_a_temporary_store_waits_for_what_still_runs() -> None:
    with temporary_store():
        handle = napping.run(3)
    assert handle._runner is not None
    assert handle._runner.done.is_set()


def test_a_temporary_store_leaves_the_users_settings_alone(tmp_path: Path) -> None:
    before = (os.environ["KITARU_CONFIG_DIR"], configured.store, configured.durability)
    with pytest.raises(TypeError), temporary_store():
        napping.run(3).wait("no number")  # type: ignore[arg-type]
    assert (os.environ["KITARU_CONFIG_DIR"], configured.store, configured.durability) == before
    assert not (tmp_path / "config").exists()


def test_temporary_stores_may_be_nested() -> None:
    with temporary_store() as outer:
        napping.run(1).wait(PATIENCE)
        with temporary_store() as inner:
            assert inner != outer
            assert KitaruClient().executions.list() == []
        assert len(KitaruClient().executions.list()) == 1
        assert napping.run(2).wait(PATIENCE) == 2


def test_a_fake_clock_makes_a_delay_pass_at_once_and_goes_away(tmp_path: Path) -> None:
    before = installed()
    with fake_clock(now=5) as clock:
        assert patient.run(tmp_path / "tries").wait(PATIENCE) == 2
        assert clock.now() == 5 + 3_600_000_000
    assert installed() is before
