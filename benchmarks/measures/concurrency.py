"""P3: several flows at once in one process, on the disk as it is and on one whose syncs take 3 ms longer.

Threads that commit at the same time should share a sync (group commit): never slower than one flow alone, and many
times faster when syncs are what takes the time.
"""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks import slow_disk
from benchmarks.marks import Row, at_least, at_most
from benchmarks.rounds import Plan, Series, python, take_turns
from benchmarks.setting import Setting

IDS = ("P3",)
ONE, EIGHT, MANY, RAW_EIGHT = "1 flow", "8 flows", "64 flows", "raw, 8 threads"
SYNC_DELAY_MS = 3
STARVED = 1.5
"""A flow starves when it takes this many times as long as the median flow that began with it. A choice of ours: all
flows do the same work, so an even share of the commits ends them together.
"""


def measure(setting: Setting, _wanted: frozenset[str]) -> list[Row]:
    """The rows of P3, twice: the disk as it is, then the slow one."""
    rows = _rows(_series(setting, {ONE: 600, EIGHT: 800, MANY: 1280, RAW_EIGHT: 800}, {}), "", 1, 1)
    room = setting.room("shim")
    label = f", +{SYNC_DELAY_MS} ms a sync"
    try:
        slow = slow_disk.environment(room, SYNC_DELAY_MS)
    except slow_disk.NoSlowDisk as error:
        return [*rows, Row("P3", f"8 and 64 flows{label}", mark=at_least(4), note=str(error))]
    series = _series(setting, {ONE: 60, EIGHT: 480, MANY: 1920, RAW_EIGHT: 80}, slow)
    if min(turn.extra.get("syncs", 0) for turn in series.rounds[ONE]) < 60:
        return [*rows, Row("P3", f"8 and 64 flows{label}", mark=at_least(4), note="the shim saw too few syncs")]
    return [*rows, *_rows(series, label, 4, 10)]


def _series(setting: Setting, counts: Mapping[str, int], environment: Mapping[str, str]) -> Series:
    room = setting.room("p3")
    flows = {ONE: 1, EIGHT: 8, MANY: 64}
    plans = [
        Plan(name, python("benchmarks.contenders.kitaru_flows", room / f"store-{n}", "--flows", n), counts[name],
             environment)
        for name, n in flows.items()
    ]  # fmt: skip
    raw = python("benchmarks.contenders.raw_commits", room / "raw.db", "--threads", 8)
    return take_turns([*plans, Plan(RAW_EIGHT, raw, counts[RAW_EIGHT], environment)], setting.rounds, room)


def _rows(series: Series, label: str, least_eight: float, least_many: float) -> list[Row]:
    def at_once(name: str, least: float) -> list[Row]:
        slowest = max(turn.extra["slowest"] / turn.extra["median"] for turn in series.rounds[name])
        figure = f"{series.rate(name):,.0f} steps/s{_syncs(series, name)}"
        return [
            Row("P3", f"{name} at once{label}", figure, series.speed_ratio(name, ONE), "x 1 flow", at_least(least)),
            Row("P3", f"{name}{label}: the slowest of them", f"{slowest:.2f} x the median flow", slowest,
                "x median, worst round", at_most(STARVED)),
        ]  # fmt: skip

    one = Row("P3", f"{ONE}{label}", f"{series.rate(ONE):,.0f} steps/s{_syncs(series, ONE)}", 1, "x 1 flow")
    raw = Row("P3", f"{RAW_EIGHT}{label}", f"{series.rate(RAW_EIGHT):,.0f} commits/s{_syncs(series, RAW_EIGHT)}",
              series.speed_ratio(RAW_EIGHT, ONE), "x 1 flow")  # fmt: skip
    return [raw, one, *at_once(EIGHT, least_eight), *at_once(MANY, least_many)]


def _syncs(series: Series, name: str) -> str:
    turns = [turn for turn in series.rounds[name] if "syncs" in turn.extra]
    if not turns:
        return ""
    per_unit = sum(turn.extra["syncs"] for turn in turns) / sum(turn.count for turn in turns)
    return f", {per_unit:.2f} syncs each"
