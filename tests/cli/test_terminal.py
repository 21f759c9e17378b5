"""`kitaru run` on a terminal: the flow asks there, and an answer from elsewhere may be first."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kitaru.client import KitaruClient
from tests.cli.commands import PATIENCE, environment

pytestmark = pytest.mark.timeout(90)

FLOW = """
from kitaru import flow, wait

@flow
def asks():
    return 2 * wait(schema=int, name="approve", question="How many?")
"""


def on_terminal(folder: Path, react: Callable[[int], None]) -> tuple[int, str]:
    """Run the flow in a terminal of its own, `react` once it asks; the exit code and all that it printed."""
    (folder / "flows.py").write_text(FLOW)
    line = [sys.executable, "-m", "kitaru.cli", "run", "flows.py:asks"]
    terminal, theirs = pty.openpty()
    child = subprocess.Popen(
        line, cwd=folder, env={**environment(), "TERM": "xterm"}, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    printed, reacted = "", False
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        ready, _, _ = select.select([terminal], [], [], 0.1)
        try:
            more = os.read(terminal, 10_000).decode() if ready else None
        except OSError:  # Linux says so when the other side is closed
            break
        if more == "":
            break
        printed += more or ""
        if "[approve]> " in printed and not reacted:
            reacted = True
            react(terminal)
    os.close(terminal)
    return child.wait(PATIENCE), printed


def test_the_answer_is_typed_where_the_flow_runs(folder: Path) -> None:
    code, printed = on_terminal(folder, lambda terminal: os.write(terminal, b"seven\n7\n") and None)
    assert code == 0, printed
    assert "How many?" in printed
    assert "valid integer" in printed
    assert "14" in printed


def test_an_answer_from_elsewhere_is_first(folder: Path) -> None:
    def answer(_: int) -> None:
        with KitaruClient(folder / ".kitaru") as client:
            (wait,) = client.executions.pending_waits()
            client.executions.input(wait.exec_id, wait=wait.name, value=4)

    code, printed = on_terminal(folder, answer)
    assert (code, "\r\n8\r\n" in printed) == (0, True), printed
