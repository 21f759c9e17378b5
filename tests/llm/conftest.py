"""A configuration folder and a store of its own for each test, and no provider's variable of the machine's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import kitaru
from kitaru.compose import close_logs
from kitaru.runtime import process
from kitaru.runtime.clock import install
from kitaru.settings import Configuration, configured
from kitaru.testing import FakeClock
from tests.llm.servers import Server, completes, replies, running

KEY = "sk-canary-7f3a91c2"
MODELS = {"openai": "openai/gpt-4o-mini", "anthropic": "anthropic/claude-haiku-4-5"}

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


@pytest.fixture
def openai(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """OpenAI's format, where the openai SDK will look for it."""
    with running(completes()) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        yield server


@pytest.fixture
def anthropic(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Anthropic's format, where the anthropic SDK will look for it."""
    with running(replies()) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
        yield server


@pytest.fixture(params=["openai", "anthropic"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Each of the two; `server.model` names a model that it serves."""
    found: Server = request.getfixturevalue(request.param)
    found.model = MODELS[request.param]
    return found


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    """The clock of the executions that start in this test: a pause costs no time."""
    fake = FakeClock()
    before = install(fake)
    yield fake
    install(before)
