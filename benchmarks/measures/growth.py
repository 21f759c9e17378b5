"""P4 and P10: what a large store costs: appends to it, and building its read models anew."""

from __future__ import annotations

from pathlib import Path

from benchmarks.marks import Row, at_least, at_most
from benchmarks.rounds import Plan, python, take_turns
from benchmarks.seeds import many_events
from benchmarks.setting import Setting

IDS = ("P4", "P10")
EMPTY, LONG, LARGE, AGAIN = "empty", "long stream", "large store", "empty again"
STREAM_EVENTS = 10_000
_APPENDS = 400
_REBUILD_ROUNDS = 3


def measure(setting: Setting, wanted: frozenset[str]) -> list[Row]:
    """The rows of P4, P10 or both; they share the large store, which P10 reads and P4 then appends to."""
    large = setting.room("large") / "store"
    many_events(large, setting.events)
    rebuilt = _rebuild(setting, large) if "P10" in wanted else []
    return [*(_appends(setting, large) if "P4" in wanted else []), *rebuilt]


def _appends(setting: Setting, large: Path) -> list[Row]:
    room = setting.room("p4")
    stores = {
        EMPTY: (room / "empty", 0),
        LONG: (room / "long", STREAM_EVENTS),
        LARGE: (large, 0),
        AGAIN: (room / "again", 0),
    }
    plans = [
        Plan(name, python("benchmarks.contenders.appends", store, events), _APPENDS, {"KITARU_DURABILITY": "os"})
        for name, (store, events) in stores.items()
    ]
    series = take_turns(plans, setting.rounds, room)
    us = {name: f"{series.seconds(name) * 1e6:,.0f} us" for name in stores}
    noise = series.cost_ratio(AGAIN, EMPTY)
    return [
        Row("P4", "append to a new stream, empty store, no sync", us[EMPTY], 1, "x",
            note=f"a second empty store took {noise:.2f} x the first: the noise of this comparison"),
        Row("P4", f"append to a stream of {STREAM_EVENTS:,} events", us[LONG], series.cost_ratio(LONG, EMPTY),
            "x the first append", at_most(1.2)),
        Row("P4", f"append to a store of {setting.events:,} events", us[LARGE], series.cost_ratio(LARGE, EMPTY),
            "x the first append", at_most(1.2),
            note="" if setting.events >= 10_000_000 else "the mark speaks of 10,000,000: --events 10000000"),
    ]  # fmt: skip


def _rebuild(setting: Setting, large: Path) -> list[Row]:
    room = setting.room("p10")
    plans = [Plan("rebuild", python("benchmarks.contenders.rebuild", large), setting.events)]
    rate = take_turns(plans, min(setting.rounds, _REBUILD_ROUNDS), room).rate("rebuild")
    what = f"rebuild of all read models from {setting.events:,} events"
    return [Row("P10", what, f"{setting.events / rate:,.1f} s", rate, "events/s", at_least(100_000))]
