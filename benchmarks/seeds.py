"""Stores of a given size, each filled by a process of its own, so that the harness itself never opens a store."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from benchmarks.rounds import ROOT, ContenderError, python


def finished_executions(store: Path, count: int) -> None:
    """A store of `count` finished executions without checkpoints: five flows, three tags, four tiers."""
    _fill("executions", store, count)


def many_events(store: Path, count: int) -> None:
    """A store of at least `count` events, 203 of each execution."""
    _fill("events", store, count)


def _fill(kind: str, store: Path, count: int) -> None:
    command = python("benchmarks.contenders.fill", kind, store, count)
    environment = {**os.environ, "KITARU_DURABILITY": "os"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ContenderError(f"could not fill the store:\n{done.stderr[-2000:]}")
