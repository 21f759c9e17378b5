"""P6: how soon a flow that waits goes on once it is answered, and what waiting costs."""

from __future__ import annotations

from benchmarks.marks import Row, at_most
from benchmarks.rounds import Plan, python, take_turns
from benchmarks.setting import Setting

IDS = ("P6",)
INSIDE, OUTSIDE, IDLE = "inside", "outside", "idle"
_ANSWERS = 20


def measure(setting: Setting, _wanted: frozenset[str]) -> list[Row]:
    """The rows of P6. PostgreSQL has none: this version keeps stores in folders only."""
    room = setting.room("p6")
    contender = "benchmarks.contenders.answered"
    plans = [
        Plan(INSIDE, python(contender, room / "inside"), _ANSWERS),
        Plan(OUTSIDE, python(contender, room / "outside", "--outside"), _ANSWERS),
        Plan(IDLE, python(contender, room / "idle", "--idle"), 1),
    ]
    series = take_turns(plans, setting.rounds, room)
    inside, outside = (series.seconds(name) * 1000 for name in (INSIDE, OUTSIDE))
    slowest = {name: series.extra(name, "slowest") * 1000 for name in (INSIDE, OUTSIDE)}
    idle = series.seconds(IDLE) * 1000
    return [
        Row("P6", "answer from the same process", f"p50 {inside:.2f} ms, slowest {slowest[INSIDE]:.1f}", inside, "ms",
            at_most(2)),
        Row("P6", "answer from another process", f"p50 {outside:.2f} ms, slowest {slowest[OUTSIDE]:.1f}", outside, "ms",
            at_most(10), note="in the first minute of a wait; then the file is looked at every 50 ms, not every 5"),
        Row("P6", "waiting, the polling included", f"{idle:.1f} ms CPU a second", idle, "ms/s"),
    ]  # fmt: skip
