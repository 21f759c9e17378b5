"""What a command and its flow show on one terminal: what begins is told first, and neither writes over the other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cli.terminal import Terminal

pytestmark = pytest.mark.timeout(90)

FLOW = """
import sys
import time
from pathlib import Path

from kitaru import checkpoint, flow
from kitaru.cli.foreground import LOOK_SECONDS

def until(name):
    while not Path(name).exists():
        time.sleep(0.01)

@checkpoint
def tick(n):
    print("tick", n)

@flow
def ticks():
    print("first")
    tick(1)
    until("go on")
    tick(2)
    print("half of", end=" ")
    sys.stdout.flush()
    time.sleep(4 * LOOK_SECONDS)
    print("a line")
    print("no end of line", end="")
    return "the value"
"""


def test_the_line_of_a_run_gives_way_to_what_its_flow_prints(folder: Path) -> None:
    (folder / "flows.py").write_text(FLOW)
    with Terminal(folder, "run", "flows.py:ticks") as terminal:
        terminal.until(lambda lines: lines[-1:] == ["1 checkpoint"])
        (folder / "go on").touch()
        code, lines = terminal.end()
    assert code == 0
    assert re.fullmatch("running ticks: [0-9a-f-]{36}", lines[0])
    assert lines[1:-1] == ["first", "tick 1", "tick 2", "half of a line", "no end of line", "the value"]
    assert lines[-1].startswith("completed in ")
