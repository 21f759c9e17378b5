"""Real commands in real processes, in a folder of their own choosing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kitaru

PATIENCE = 40.0


def environment() -> dict[str, str]:
    """This process's, with the package that is tested."""
    return {**os.environ, "PYTHONPATH": str(Path(kitaru.__file__).parents[1])}


def run(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    line = [sys.executable, "-m", "kitaru.cli", *words]
    return subprocess.run(
        line, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL
    )


def run_json(*words: str, cwd: Path) -> Any:
    """The envelope of a command that succeeds."""
    ran = run(*words, "-o", "json", cwd=cwd)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def start(*words: str, cwd: Path) -> subprocess.Popen[str]:
    """Start a command that goes on."""
    line = [sys.executable, "-m", "kitaru.cli", *words]
    return subprocess.Popen(
        line,
        cwd=cwd,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )


def await_true(is_so: Callable[[], bool]) -> None:
    """Look until it is so."""
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)
