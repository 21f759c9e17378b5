"""P5: how fast a flow goes through what it has already done."""

from __future__ import annotations

import subprocess
from pathlib import Path

from benchmarks.marks import Row, at_least, at_most
from benchmarks.rounds import ROOT, ContenderError, Plan, python, take_turns
from benchmarks.setting import Setting

IDS = ("P5",)
CALLS = 10_000
RESUME, CLIENT, RAW = "resume", "resume by the client", "raw rows"


def measure(setting: Setting, _wanted: frozenset[str]) -> list[Row]:
    """The rows of P5."""
    room = setting.room("p5")
    store = room / "store"
    exec_id = _killed_execution(store)
    plans = [
        Plan(RESUME, python("benchmarks.contenders.resumes", store, exec_id), CALLS),
        Plan(CLIENT, python("benchmarks.contenders.resumes", store, exec_id, "--client"), CALLS),
        Plan(RAW, python("benchmarks.contenders.raw_rows", store, exec_id), CALLS),
    ]
    series = take_turns(plans, setting.rounds, room)
    resume_ms, raw_ms = (series.seconds(name) * CALLS * 1000 for name in (RESUME, RAW))
    rows = series.extra(RAW, "rows")
    what = f"resume with {CALLS:,} completed checkpoints"
    return [
        Row("P5", "its rows, read raw", f"{raw_ms:,.0f} ms for {rows:,.0f} rows", 1, "x raw"),
        Row("P5", what, f"{resume_ms:,.0f} ms", series.cost_ratio(RESUME, RAW), "x raw", at_most(3)),
        Row("P5", "the same by client.executions.recover", f"{series.seconds(CLIENT) * CALLS * 1000:,.0f} ms",
            series.cost_ratio(CLIENT, RAW), "x raw", note="it reads its answer while the body runs beside it"),
        Row("P5", what, f"{series.rate(RESUME):,.0f} calls/s", series.rate(RESUME), "calls/s", at_least(100_000)),
    ]  # fmt: skip


def _killed_execution(store: Path) -> str:
    command = python("benchmarks.contenders.long_flow", store, CALLS)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode or not done.stdout:
        raise ContenderError(f"the flow did not get to its end\n{done.stdout}{done.stderr}")
    return done.stdout.split()[0]
