"""A store of its own for each test, with nothing running in it when the next test begins."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import kitaru
from kitaru.compose import close_logs, open_log
from kitaru.runtime import code, process
from kitaru.runtime.clock import install
from kitaru.settings import Configuration, configured, resolve_store
from kitaru.store.log import EventLog
from kitaru.testing import FakeClock

_VARIABLES = ("KITARU_STORE", "KITARU_SERVER_URL", "KITARU_PROJECT", "KITARU_CACHE", "KITARU_DURABILITY")


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty store, configured for this process."""
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KITARU_CONFIG_DIR", str(tmp_path / "config"))
    kitaru.configure(store=tmp_path / "store", durability="os")
    yield tmp_path / "store"
    process.join_all()
    close_logs()
    fresh = Configuration()
    for name in Configuration.__slots__:
        setattr(configured, name, getattr(fresh, name))


@pytest.fixture
def log(store: Path) -> EventLog:
    """The test's store, open."""
    return open_log(resolve_store())


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    """The clock of the executions that start in this test."""
    fake = FakeClock()
    before = install(fake)
    yield fake
    install(before)


@pytest.fixture
def loaded_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leaves no module, flow and path entry of the test's own files behind."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = dict(code.flows)
    yield
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]
    code.flows.clear()
    code.flows.update(before)
