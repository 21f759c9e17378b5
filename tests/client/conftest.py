"""A store of its own for each test, and a client on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kitaru.client import KitaruClient
from kitaru.compose import close_logs, open_log
from kitaru.settings import Configuration, StoreChoice, configured
from kitaru.store.log import EventLog

_VARIABLES = ("KITARU_STORE", "KITARU_SERVER_URL", "KITARU_PROJECT", "KITARU_CACHE", "KITARU_DURABILITY")


@pytest.fixture(autouse=True)
def nothing_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No setting of the machine or of another test."""
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KITARU_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("KITARU_DURABILITY", "os")
    yield
    close_logs()
    fresh = Configuration()
    for name in Configuration.__slots__:
        setattr(configured, name, getattr(fresh, name))


@pytest.fixture
def choice(tmp_path: Path) -> StoreChoice:
    """Where the test's store is."""
    return StoreChoice(str(tmp_path / "store"), "of the test")


@pytest.fixture
def log(choice: StoreChoice) -> EventLog:
    """The test's store, open for writing."""
    return open_log(choice)


@pytest.fixture
def client(choice: StoreChoice) -> Iterator[KitaruClient]:
    """A client of the test's store."""
    with KitaruClient(choice.location) as found:
        yield found
