"""Stores for statistics: on disk and in memory, with and without a base."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kitaru.analytics.bases import LIMITS, Limits
from kitaru.compose import close_logs, open_log, projectors
from kitaru.settings import StoreChoice
from kitaru.testing import memory_log
from tests.analytics.counting import Place

BASED = Limits(small=0, few=10**9, gain=10**9, apart=False)
"""A base from the first question on, which stays; what comes later is its tail."""
ALWAYS_NEW = Limits(small=0, few=0, part=10**9, gain=1, far_behind=0, apart=False)
"""The next generation is waited for whenever anything changed."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where a store on disk is."""
    monkeypatch.setenv("KITARU_DURABILITY", "os")
    yield str(tmp_path / "store")
    close_logs()


@pytest.fixture(params=["memory", "disk", "base", "bases"])
def place(request: pytest.FixtureRequest, folder: str) -> Place:
    """A store to write to, and how it is asked."""
    if request.param == "memory":
        return Place(memory_log(projectors()), None, LIMITS)
    limits = {"disk": LIMITS, "base": BASED, "bases": ALWAYS_NEW}[request.param]
    return Place(open_log(StoreChoice(folder, "of the test")), folder, limits)
