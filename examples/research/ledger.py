"""The demo's witness outside the store: every checkpoint body writes one line here as it begins.

A line is on disk before the body goes on, so what the ledger says about a killed process is the truth. The environment
variable RESEARCH_LEDGER names the file; without it nothing is written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "RESEARCH_LEDGER"


@dataclass(frozen=True)
class Entry:
    """A body began: which checkpoint, about which document, in which process, under which idempotency key."""

    checkpoint: str
    about: str
    pid: int
    key: str


def note(checkpoint: str, about: str, key: str) -> None:
    """Append one line and force it to disk. One write call, so that lines of several threads never mix."""
    path = os.environ.get(VARIABLE)
    if not path:
        return
    line = json.dumps({"checkpoint": checkpoint, "about": about, "pid": os.getpid(), "key": key}) + "\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, line.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(path: Path) -> Sequence[Entry]:
    """All entries, in the order in which they were written."""
    if not path.exists():
        return []
    return [Entry(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
