"""A store of its own for each test, and the command line on it, in this process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from kitaru.cli import main
from kitaru.compose import close_logs, open_log
from kitaru.runtime import process
from kitaru.settings import Configuration, StoreChoice, configured
from kitaru.store.log import EventLog


class Ran(NamedTuple):
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, object]:
        """The envelope on stdout."""
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, str]:
        """The error on stderr: its last line."""
        return json.loads(self.err.splitlines()[-1])["error"]


Run = Callable[..., Ran]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project's folder with a store, and nothing else configured."""
    for name in ("KITARU_STORE", "KITARU_SERVER_URL", "KITARU_PROJECT", "KITARU_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KITARU_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("KITARU_DURABILITY", "os")
    project = tmp_path / "project"
    (project / ".kitaru").mkdir(parents=True)
    monkeypatch.chdir(project)
    yield project
    process.join_all()
    close_logs()
    fresh = Configuration()
    for name in Configuration.__slots__:
        setattr(configured, name, getattr(fresh, name))


@pytest.fixture
def log(folder: Path) -> EventLog:
    """The project's store, open for writing."""
    return open_log(StoreChoice(str(folder / ".kitaru"), "of the test"))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command line."""

    def command(*words: str) -> Ran:
        capsys.readouterr()
        code = main(words)
        out, err = capsys.readouterr()
        return Ran(code, out, err)

    return command
