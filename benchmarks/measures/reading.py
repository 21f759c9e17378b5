"""P7: what it takes to read one execution, or a page of a hundred thousand."""

from __future__ import annotations

import subprocess

from benchmarks.marks import Row, at_most
from benchmarks.rounds import ROOT, ContenderError, Plan, python, take_turns
from benchmarks.seeds import finished_executions
from benchmarks.setting import Setting

IDS = ("P7",)
CHECKPOINTS = 50
FILTERS = ("list", "list-flow", "list-status", "list-stack", "list-tag", "list-since", "list-until", "list-where",
           "list-rare", "list-several", "list-contradiction", "list-waiting", "list-nobody")  # fmt: skip
_COUNT = 20


def measure(setting: Setting, _wanted: frozenset[str]) -> list[Row]:
    """The rows of P7: `get`, then `list` by its slowest filter and without one."""
    room = setting.room("p7")
    store = room / "store"
    finished_executions(store, setting.executions)
    made = subprocess.run(
        python("benchmarks.contenders.one_execution", store, CHECKPOINTS),
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if made.returncode:
        raise ContenderError(made.stderr)
    exec_id = made.stdout.split()[-1]
    ours, bare = "benchmarks.contenders.client_reads", "benchmarks.contenders.raw_reads"
    plans = [
        Plan("get", python(ours, store, exec_id, "get"), _COUNT),
        Plan("raw get", python(bare, store, exec_id, "get"), 5 * _COUNT),
        Plan("raw list", python(bare, store, exec_id, "list"), 5 * _COUNT),
        *(Plan(name, python(ours, store, exec_id, name), _COUNT) for name in FILTERS),
    ]
    series = take_turns(plans, setting.rounds, room)
    ms = {plan.name: series.seconds(plan.name) * 1000 for plan in plans}
    slowest = max(FILTERS, key=lambda name: ms[name])
    all_filters = ", ".join(f"{name.removeprefix('list-')} {ms[name]:.2f}" for name in FILTERS)
    get, plain = series.cost_ratio("get", "raw get"), series.cost_ratio("list", "raw list")
    page = f"20 of {setting.executions:,}"
    return [
        Row("P7", f"get of a {CHECKPOINTS}-checkpoint execution",
            f"{ms['get']:.2f} ms, {get:.1f} x bare SQL", ms["get"], "ms", at_most(3)),
        Row("P7", f"list {page}", f"{ms['list']:.2f} ms, {plain:.1f} x bare SQL", ms["list"], "ms", at_most(2)),
        Row("P7", f"list {page}, slowest filter: {slowest.removeprefix('list-')}", f"{ms[slowest]:.2f} ms", ms[slowest],
            "ms", at_most(2), note=f"ms: {all_filters}"),
    ]  # fmt: skip
