"""Stores for statistics: on disk and in memory alike."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kitaru.compose import close_logs, open_log, projectors
from kitaru.settings import StoreChoice
from kitaru.store.log import EventLog
from kitaru.testing import memory_log


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where a store on disk is."""
    monkeypatch.setenv("KITARU_DURABILITY", "os")
    return str(tmp_path / "store")


@pytest.fixture(params=["disk", "memory"])
def place(request: pytest.FixtureRequest, folder: str) -> Iterator[tuple[EventLog, str | None]]:
    """A store to write to, and its folder if it has one."""
    if request.param == "memory":
        yield memory_log(projectors()), None
        return
    yield open_log(StoreChoice(folder, "of the test")), folder
    close_logs()
