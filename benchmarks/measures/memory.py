"""P13: peak memory of a flow, interpreter and all."""

from __future__ import annotations

import statistics
import subprocess

from benchmarks.marks import Row, at_most
from benchmarks.rounds import ROOT, ContenderError, python
from benchmarks.setting import Setting

IDS = ("P13",)
CHECKPOINTS = 1_000


def measure(setting: Setting, _wanted: frozenset[str]) -> list[Row]:
    """The row of P13, and beside it how much of it grows with the flow."""
    room = setting.room("p13")
    one, many = (_peak_mib(room / f"store-{count}", count) for count in (1, CHECKPOINTS))
    grown = f"{many:.0f} MiB, {many - one:.1f} more than with one checkpoint"
    return [Row("P13", f"a flow of {CHECKPOINTS:,} checkpoints", grown, many, "MiB at the peak", at_most(60))]


def _peak_mib(store: object, count: int) -> float:
    peaks: list[float] = []
    for _ in range(3):
        command = python("benchmarks.contenders.peak_memory", store, count)
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ContenderError(done.stderr)
        peaks.append(int(done.stdout.split()[-1]) / 1024)
    return statistics.median(peaks)
