"""P12: how long Python programs that use Kitaru, and its command line, take to start."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from benchmarks.marks import Row, at_most
from benchmarks.rounds import Plan, python, take_turns
from benchmarks.seeds import finished_executions
from benchmarks.setting import Setting

IDS = ("P12",)
PYTHON, DECORATED, TYPER, VERSION, LIST = "python", "flow", "typer", "version", "list"
EXECUTIONS = 1_000
_STARTS = 3
_PROGRAM = """\
from kitaru import checkpoint, flow

@checkpoint
def step(): ...

@flow
def agent():
    step()
"""


def measure(setting: Setting, _wanted: frozenset[str]) -> list[Row]:
    """The rows of P12; each start is a process, interpreter and all."""
    room = setting.room("p12")
    program, empty = room / "program.py", room / "empty.py"
    program.write_text(_PROGRAM, encoding="utf-8")
    empty.write_text("", encoding="utf-8")
    store = room / "store"
    finished_executions(store, EXECUTIONS)
    environment = {"KITARU_STORE": str(store), "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    commands = {
        PYTHON: [sys.executable, str(empty)],
        DECORATED: [sys.executable, str(program)],
        TYPER: [sys.executable, str(Path(__file__).parents[1] / "contenders" / "bare_typer.py"), "--output", "json"],
        VERSION: [*command_line(), "--version"],
        LIST: [*command_line(), "executions", "list"],
    }
    plans = [
        Plan(name, python("benchmarks.contenders.start", "--", *command), _STARTS, environment)
        for name, command in commands.items()
    ]
    series = take_turns(plans, setting.rounds, room)
    over = (series.seconds(DECORATED) - series.seconds(PYTHON)) * 1000
    ms = {name: f"{series.seconds(name) * 1000:,.0f} ms" for name in commands}
    return [
        Row("P12", "bare python", ms[PYTHON]),
        Row("P12", "import flow, checkpoint; decorate one", ms[DECORATED], over, "ms over python", at_most(60)),
        Row("P12", "a bare Typer program, one option", ms[TYPER], 1, "x bare Typer"),
        Row("P12", "kitaru --version", ms[VERSION], series.cost_ratio(VERSION, TYPER), "x bare Typer", at_most(1.1)),
        Row("P12", f"kitaru executions list ({EXECUTIONS:,})", ms[LIST], series.cost_ratio(LIST, TYPER), "x bare Typer",
            at_most(1.35)),
    ]  # fmt: skip


def command_line() -> list[str]:
    """How to start `kitaru`: the installed script, else its entry point."""
    script = Path(sys.executable).with_name("kitaru")
    return [str(script)] if script.exists() else [sys.executable, "-m", "kitaru.cli"]
