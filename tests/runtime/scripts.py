"""Python processes that run flows: scripts written for a test, and how they end."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
HEAD = """
import os, sys, time
import kitaru
from kitaru import checkpoint, flow

LEDGER = os.environ.get("LEDGER")


def note(line):
    with open(LEDGER, "a") as file:
        file.write(f"{line}\\n")

"""

RECOVER = """
import sys
from kitaru.compose import close_logs, open_log
from kitaru.runtime import recovery
from kitaru.settings import resolve_store

log = open_log(resolve_store())
runners = recovery.recover(log, sys.argv[1:])
for runner in runners:
    runner.join()
    print(runner.exec_id, log.head(runner.exec_id).state.status)
"""
"""What `kitaru recover` comes to."""


def write(path: Path, body: str, *, head: bool = True) -> Path:
    """A script with the usual first lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text((HEAD if head else "") + textwrap.dedent(body))
    return path


def environment(store: Path, **more: str) -> dict[str, str]:
    """This process's environment with a store, and a ledger beside it."""
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "KITARU_STORE": str(store),
        "KITARU_DURABILITY": "os",
        "LEDGER": str(store.parent / "ledger"),
        "PYTHONWARNINGS": "error",
        **more,
    }


def start(script: Path, store: Path, *args: str, **options: Any) -> subprocess.Popen[str]:
    """Run a script and go on."""
    return subprocess.Popen(
        [sys.executable, str(script), *args],
        env=environment(store, **options.pop("env", {})),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=options.pop("cwd", script.parent),
        **options,
    )


def run(script: Path, store: Path, *args: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a script to its end."""
    process = start(script, store, *args, **options)
    out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def ledger(store: Path) -> list[str]:
    """What the scripts noted."""
    path = store.parent / "ledger"
    return path.read_text().splitlines() if path.exists() else []
