"""A configuration folder and a store of its own for each test, and no provider's variable of the machine's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import kitaru
from kitaru.compose import close_logs
from kitaru.runtime import process
from kitaru.settings import Configuration, configured

_PREFIXES = ("KITARU_", "OPENAI_", "ANTHROPIC_", "OLLAMA_", "OPENROUTER_")


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the user's own files are."""
    for name in list(os.environ):
        if name.startswith(_PREFIXES):
            monkeypatch.delenv(name)
    monkeypatch.setenv("KITARU_CONFIG_DIR", str(tmp_path / "config"))
    return tmp_path / "config"


@pytest.fixture(autouse=True)
def store(tmp_path: Path, config: Path) -> Iterator[Path]:
    """An empty store, configured for this process."""
    kitaru.configure(store=tmp_path / "store", durability="os")
    yield tmp_path / "store"
    process.join_all()
    close_logs()
    fresh = Configuration()
    for name in Configuration.__slots__:
        setattr(configured, name, getattr(fresh, name))
