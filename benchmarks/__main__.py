"""`python -m benchmarks [P1 P2 ...]`: measure and print one table.

A run of all measures, of enough rounds, in which none broke also writes results/latest.json and the charts.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

from benchmarks import charts, machine, report
from benchmarks.marks import Row
from benchmarks.rounds import MIN_ROUNDS, ROOT
from benchmarks.setting import Setting

MEASURES = ("steps", "concurrency", "growth", "resume", "answers", "reading", "statistics", "startup", "memory", "install")
POPULATIONS = (100_000, 1_000_000)
RESULTS = Path(__file__).with_name("results")
WORK = ROOT / "build"
CHARTS = (
    ("P1", "steps/s", "Durable steps a second, one flow"),
    ("P2", "flows/s", "5-step flows a second, one after the other"),
    ("P8", "x", "Statistics: how many times a bare DuckDB query over ideal columns"),
)
PEERS = ROOT / ".venv-peers" / "bin" / "python"


def main() -> int:
    """Run what was asked for; 1 when a measure broke, whatever the figures are."""
    modules = {name: import_module(f"benchmarks.measures.{name}") for name in MEASURES}
    known = list(dict.fromkeys(id_ for module in modules.values() for id_ in module.IDS))
    options = _options(known)
    if unknown := set(options.ids) - set(known):
        print(f"no measure {', '.join(sorted(unknown))}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    wanted = frozenset(options.ids or known)
    rows: list[Row] = []
    seconds: dict[str, float] = {}
    load_before, broken, began = machine.load(), False, time.monotonic()
    options.folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.folder) as folder:
        setting = Setting(
            Path(folder), options.rounds, _peers(options), options.events, options.executions, tuple(options.population)
        )
        for name, module in modules.items():
            chosen = wanted.intersection(module.IDS)
            if not chosen:
                continue
            print(f"{', '.join(sorted(chosen))}: {name} ...", end=" ", file=sys.stderr, flush=True)
            start = time.monotonic()
            try:
                rows += module.measure(setting, chosen)
            except Exception as error:
                broken = True
                rows += [Row(id_, name, note=f"broke: {_reason(error)}") for id_ in sorted(chosen)]
            seconds[name] = round(time.monotonic() - start, 1)
            print(f"{seconds[name]:.0f} s", file=sys.stderr)
    print(report.table(rows))
    print(f"\nmarks: {report.summary(rows)}; {options.rounds} rounds, {time.monotonic() - began:.0f} s")
    if wanted == frozenset(known) and not broken and options.rounds >= MIN_ROUNDS:
        facts = {
            "at": datetime.now(UTC).strftime("%Y-%m-%d"),
            "rounds": options.rounds,
            "load_per_cpu": [round(load_before, 2), round(machine.load(), 2)],
            **{f"seconds_{name}": value for name, value in seconds.items()},
        }
        _write_results(rows, report.as_json(rows, machine.facts(), facts))
    return 1 if broken else 0


def _options(known: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("ids", nargs="*", metavar="ID", help=f"among {', '.join(known)}; default all")
    parser.add_argument("--rounds", type=int, default=MIN_ROUNDS, help="a mark is the median of at least %(default)s")
    parser.add_argument("--events", type=int, default=1_000_000, help="events of the large store (P4, P10)")
    parser.add_argument("--executions", type=int, default=100_000, help="executions of the store that is listed (P7)")
    parser.add_argument(
        "--population", type=int, action="append", help="executions that statistics are asked of (P8, P9, P11); repeatable"
    )
    parser.add_argument("--peers", type=Path, help="interpreter of the peers' environment; default .venv-peers")
    parser.add_argument("--folder", type=Path, default=WORK, help="the disk that is measured; default build/")
    options = parser.parse_args()
    options.population = options.population or POPULATIONS
    return options


def _reason(error: Exception) -> str:
    """The first and the last line of what was said: a contender's message ends with what it wrote itself."""
    lines = [line.strip() for line in f"{type(error).__name__}: {error}".splitlines() if line.strip()]
    return " ... ".join(dict.fromkeys([lines[0], lines[-1]]))


def _peers(options: argparse.Namespace) -> Path | None:
    if options.peers is not None:
        return options.peers.absolute()
    return PEERS if PEERS.exists() else None


def _write_results(rows: Sequence[Row], document: bytes) -> None:
    RESULTS.mkdir(exist_ok=True)
    report.write(RESULTS / "latest.json", document)
    report.write(RESULTS / "marks.svg", charts.reached("How much of each mark is reached", rows).encode())
    for id_, unit, title in CHARTS:
        charted = {row.what: row.rate for row in rows if row.id == id_ and row.rate is not None}
        if charted:
            report.write(RESULTS / f"{id_.lower()}.svg", charts.bars(title, charted, unit).encode())


if __name__ == "__main__":
    sys.exit(main())
