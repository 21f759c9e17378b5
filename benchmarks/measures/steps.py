"""P1 and P2: what a checkpoint costs, against one raw commit and against other engines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmarks.marks import Row, at_least
from benchmarks.rounds import Plan, Series, python, take_turns
from benchmarks.setting import Setting

IDS = ("P1", "P2")
KITARU, FULL, NORMAL, DBOS, LANGGRAPH = "kitaru", "raw full", "raw normal", "dbos", "langgraph"
STEPS_PER_FLOW = 5
KITARU_COMMITS_PER_FLOW = 7
_NO_PEERS = "make bench-peers installs them"


def measure(setting: Setting, wanted: frozenset[str]) -> list[Row]:
    """The rows of P1, P2 or both."""
    rows: list[Row] = []
    if "P1" in wanted:
        rows += _checkpoints(setting)
    if "P2" in wanted:
        rows += _flows(setting)
    return rows


def _checkpoints(setting: Setting) -> list[Row]:
    room = setting.room("p1")
    plans = [
        Plan(KITARU, python("benchmarks.contenders.kitaru_flows", room / "store"), 1000),
        Plan(FULL, python("benchmarks.contenders.raw_commits", room / "full.db"), 1000),
        Plan(NORMAL, python("benchmarks.contenders.raw_commits", room / "normal.db", "--level", "normal"), 4000),
        *_peers(setting, room, count=150, five=False),
    ]
    series = take_turns(plans, setting.rounds, room)
    return [
        _base("P1", "raw insert + commit, WAL FULL", series, "commits/s"),
        Row("P1", "raw insert + commit, WAL NORMAL", f"{series.rate(NORMAL):,.0f} commits/s",
            series.speed_ratio(NORMAL, FULL), "x raw FULL"),
        _kitaru("P1", "Kitaru: checkpoints in one flow", series, "steps/s", 0.5),
        _against("P1", "DBOS on SQLite", series, DBOS, "steps/s", 8),
        _against("P1", "LangGraph, SqliteSaver, sync", series, LANGGRAPH, "steps/s", 3),
    ]  # fmt: skip


def _flows(setting: Setting) -> list[Row]:
    room = setting.room("p2")
    raw = "benchmarks.contenders.raw_commits"
    plans = [
        Plan(KITARU, python("benchmarks.contenders.kitaru_flows", room / "store", "--five"), 120),
        Plan(FULL, python(raw, room / "full.db", "--commits", STEPS_PER_FLOW), 240),
        *_peers(setting, room, count=25, five=True),
    ]
    series = take_turns(plans, setting.rounds, room)
    row = _kitaru("P2", "Kitaru: 5-step flows, one after the other", series, "flows/s", 0.4)
    commits = (row.value or 0) * KITARU_COMMITS_PER_FLOW / STEPS_PER_FLOW
    note = f"Kitaru makes {KITARU_COMMITS_PER_FLOW} full commits a flow: {commits:.2f} of raw for each commit"
    return [
        _base("P2", f"raw, {STEPS_PER_FLOW} commits a flow", series, "flows/s"),
        replace(row, note=note),
        _against("P2", "DBOS on SQLite", series, DBOS, "flows/s", 6),
        _against("P2", "LangGraph, SqliteSaver, sync", series, LANGGRAPH, "flows/s", None),
    ]


def _peers(setting: Setting, room: Path, *, count: int, five: bool) -> list[Plan]:
    if setting.peers is None:
        return []
    more = ["--five"] if five else []
    return [
        Plan(name, python(f"benchmarks.peers.{name}_steps", room / f"{name}.db", *more, interpreter=str(setting.peers)),
             count)
        for name in (DBOS, LANGGRAPH)
    ]  # fmt: skip


def _base(id_: str, what: str, series: Series, unit: str) -> Row:
    return Row(id_, what, f"{series.rate(FULL):,.0f} {unit}", 1, "x raw FULL", rate=series.rate(FULL))


def _kitaru(id_: str, what: str, series: Series, unit: str, least: float) -> Row:
    rate = series.rate(KITARU)
    figure = f"{rate:,.0f} {unit}, {series.cpu_seconds(KITARU) * 1e6:,.0f} us CPU"
    return Row(id_, what, figure, series.speed_ratio(KITARU, FULL), "x raw FULL", at_least(least), rate=rate)


def _against(id_: str, name: str, series: Series, peer: str, unit: str, least: float | None) -> Row:
    mark = at_least(least) if least is not None else None
    if peer not in series.rounds:
        return Row(id_, name, mark=mark, note=_NO_PEERS)
    rate = series.rate(peer)
    figure = f"{rate:,.0f} {unit}, {series.cpu_seconds(peer) * 1e6:,.0f} us CPU"
    return Row(id_, name, figure, series.speed_ratio(KITARU, peer), "Kitaru / it", mark, rate=rate)
