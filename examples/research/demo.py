"""`make demo`: run the research flow, kill it with SIGKILL half-way, recover it, and hold the record against a ledger.

Exits 1 when a checkpoint that was recorded as completed ran again, when the ledger and the record disagree in any other
way, or when the kill missed its window. Needs no network and no key; leaves its files in `.demo/`.
"""

from __future__ import annotations

import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ledger
from comparison import Seen, Verdict, compare

from kitaru import KitaruClient
from kitaru.client import Execution

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FOLDER = ROOT / ".demo"
STORE = FOLDER / "store"
LEDGER = FOLDER / "ledger.jsonl"
KILL_WINDOW = (0.2, 0.8)
PATIENCE = 90.0
"""Seconds within which the flow has to reach the kill point."""


class DemoError(Exception):
    """The demo could not show what it is there to show."""


def main() -> int:
    """The whole story, in five acts."""
    started = time.monotonic()
    try:
        environment = prepare()
        killed = run_and_kill(environment)
        recover(environment)
        end = KitaruClient(store=str(STORE)).executions.get(killed.before.exec_id)
        show(environment, end.exec_id)
        verdict = hold_against_ledger(killed, end)
        print_report(end)
    except DemoError as error:
        print(f"\nFAILED: {error}", file=sys.stderr)
        return 1
    if verdict.faults:
        return 1
    print_next_steps(end.exec_id, time.monotonic() - started)
    return 0


def prepare() -> dict[str, str]:
    """A fresh folder, and the environment that points the flow and the command line to it."""
    if FOLDER.exists():
        shutil.rmtree(FOLDER)
    FOLDER.mkdir()
    return {
        **os.environ,
        "KITARU_STORE": str(STORE),
        ledger.VARIABLE: str(LEDGER),
        "NO_COLOR": "1",
        "KITARU_CONFIG_DIR": str(FOLDER / "config"),
    }


@dataclass(frozen=True)
class Killed:
    """The execution as the record had it right after the kill."""

    pid: int
    before: Execution
    documents: list[str]


def run_and_kill(environment: dict[str, str]) -> Killed:
    """Start the flow in a process of its own; SIGKILL that process once 30 % to 60 % is recorded."""
    share = random.uniform(0.3, 0.6)
    title("1. A flow runs in a process of its own")
    command = [sys.executable, str(HERE / "research.py")]
    print(f"$ python {(HERE / 'research.py').relative_to(ROOT)}")
    with (FOLDER / "first-run.log").open("wb") as output:
        child = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        before, documents = watch_until(child, share)
        child.send_signal(signal.SIGKILL)
    finally:
        child.kill()
        child.wait()
    client = KitaruClient(store=str(STORE))
    before = client.executions.get(before.exec_id)
    completed, total = len(completed_calls(before)), len(documents) + 3
    title(f"2. kill -9 {child.pid}")
    in_flight = sorted(running_calls(before))
    print(f"{completed} of {total} checkpoints ({completed / total:.0%}) were recorded as completed when it died.")
    print(f"The record says: {before.status}, runner {before.runner}. {len(in_flight)} were in flight: {few(in_flight)}.")
    low, high = KILL_WINDOW
    if not low <= completed / total <= high or before.status.is_finished:
        raise DemoError(f"the kill missed its window of {low:.0%} to {high:.0%}; run the demo again")
    return Killed(child.pid, before, documents)


def watch_until(child: subprocess.Popen[bytes], share: float) -> tuple[Execution, list[str]]:
    """Follow the execution through the client until `share` of its checkpoints are completed."""
    deadline = time.monotonic() + PATIENCE
    documents: list[str] = []
    shown = -1
    while time.monotonic() < deadline:
        if child.poll() is not None:
            log = (FOLDER / "first-run.log").read_text(errors="replace")
            raise DemoError(f"the flow ended by itself (exit code {child.returncode}) before the kill:\n{log}")
        time.sleep(0.05)
        execution = newest_execution()
        if execution is None:
            continue
        if not documents:
            documents = found_documents(execution)
            if not documents:
                continue
            print(f"execution {execution.exec_id}: {len(documents)} documents to digest")
        done, total = len(completed_calls(execution)), len(documents) + 3
        if done * 10 // total > shown:
            shown = done * 10 // total
            print(f"  {done:3} of {total} checkpoints recorded")
        if done >= share * total:
            return execution, documents
    raise DemoError(f"the flow did not get to {share:.0%} within {PATIENCE:.0f} s")


def newest_execution() -> Execution | None:
    """The execution that the child started, once there is one."""
    if not STORE.exists():
        return None
    client = KitaruClient(store=str(STORE))
    try:
        return client.executions.get(client.executions.latest().exec_id)
    except LookupError:
        return None


def found_documents(execution: Execution) -> list[str]:
    """What the checkpoint `discover` returned, read from the record; empty until it completed."""
    for call in execution.checkpoints or ():
        if call.invocation_id == "discover" and call.status == "completed":
            return list(call.artifacts[0].load())
    return []


def completed_calls(execution: Execution) -> set[str]:
    """Invocation ids of the calls with a result."""
    return {call.invocation_id for call in execution.checkpoints or () if call.status == "completed"}


def running_calls(execution: Execution) -> set[str]:
    """Invocation ids of the calls that began and have no result."""
    return {call.invocation_id for call in execution.checkpoints or ()} - completed_calls(execution)


def recover(environment: dict[str, str]) -> None:
    """The command that a user would type after a crash."""
    title("3. The same execution goes on")
    print_excerpt(kitaru(environment, "recover"), head=10, tail=10)


def show(environment: dict[str, str], exec_id: str) -> None:
    """What the command line says about it: the beginning, what the kill left, the end."""
    title("4. What the record says")
    lines = kitaru(environment, "executions", "get", exec_id)
    print_excerpt(lines, head=15, tail=2, around=[n for n, line in enumerate(lines) if "interrupted" in line][:3])
    print()
    lines = kitaru(environment, "executions", "events", exec_id)
    print_excerpt(lines, head=5, tail=4, around=[n for n, line in enumerate(lines) if "epoch=2" in line], more=2)


def kitaru(environment: dict[str, str], *arguments: str) -> list[str]:
    """Run a real `kitaru` command; the lines that it printed."""
    print(f"$ kitaru {shlex.join(arguments)}", flush=True)
    script = Path(sys.executable).with_name("kitaru")
    start = [str(script)] if script.exists() else [sys.executable, "-m", "kitaru.cli"]
    command = [*start, *arguments]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    lines = [line.rstrip() for line in (*result.stderr.splitlines(), *result.stdout.splitlines())]
    if result.returncode:
        print("\n".join(lines))
        raise DemoError(f"`kitaru {shlex.join(arguments)}` ended with exit code {result.returncode}")
    return lines


def print_excerpt(lines: Sequence[str], *, head: int, tail: int, around: Sequence[int] = (), more: int = 0) -> None:
    """The first and last lines, those `around`, each with `more` on both sides, and how many are left out between."""
    chosen = {*range(head), *range(len(lines) - tail, len(lines))}
    chosen.update(place for middle in around for place in range(middle - more, middle + more + 1))
    last = -1
    for place in sorted(chosen.intersection(range(len(lines)))):
        if place > last + 1:
            print(f"  ... {place - last - 1} more")
        last = place
        print(f"  {shortened(lines[place])}".rstrip())


def shortened(line: str, width: int = 116) -> str:
    """A line that fits a terminal."""
    return line if len(line) <= width else line[: width - 3] + "..."


def hold_against_ledger(killed: Killed, end: Execution) -> Verdict:
    """Compare what the bodies wrote outside the store with what the store says."""
    title("5. The ledger against the record")
    seen = Seen(
        documents=killed.documents,
        completed_at_kill=completed_calls(killed.before),
        running_at_kill=running_calls(killed.before),
        completed_at_end=completed_calls(end),
        attempts={call.invocation_id: len(call.attempts) for call in end.checkpoints or ()},
    )
    verdict = compare(ledger.read(LEDGER), seen, killed.pid)
    faults = [*verdict.faults]
    if not end.status.is_successful:
        faults.append(f"the execution ended {end.status}")
    if len(seen.completed_at_end) != len(killed.documents) + 3:
        faults.append(f"{len(seen.completed_at_end)} calls completed instead of {len(killed.documents) + 3}")
    print("Every checkpoint body wrote an fsynced line into a file outside the store as it began.")
    print(f"  {verdict.bodies:4} bodies began")
    print(f"  {len(seen.completed_at_end):4} checkpoints completed")
    print(f"  {len(seen.completed_at_kill):4} of them before the kill" + ("" if faults else "; none of these ran again"))
    if verdict.repeated:
        print(f"  {len(verdict.repeated):4} in flight at the kill began again, as they must: {few(verdict.repeated)}")
        print("       each with the same kitaru.idempotency_key() as before, so that an outside service can tell")
    if unbegun := len(seen.running_at_kill) - len(verdict.repeated):
        print(f"  {unbegun:4} in flight at the kill had not written its line yet, and began once")
    for fault in faults:
        print(f"  FAULT: {fault}")
    return Verdict(verdict.bodies, verdict.repeated, faults)


def print_report(end: Execution) -> None:
    """The head of the artifact that the flow saved."""
    title("The report that it wrote")
    reports = KitaruClient(store=str(STORE)).artifacts.list(end.exec_id, name="report")
    if not reports:
        raise DemoError("the execution has no artifact named report")
    text = str(reports[0].load())
    (FOLDER / "report.md").write_text(text, encoding="utf-8")
    print("\n".join(shortened(line) for line in text.splitlines()[:16]))


def print_next_steps(exec_id: str, seconds: float) -> None:
    """What a newcomer may type now."""
    title(f"Done in {seconds:.0f} s: nothing that was recorded ran twice, and nothing was lost")
    script = Path(sys.executable).with_name("kitaru")
    name = near(script) if script.exists() else f"{near(Path(sys.executable))} -m kitaru.cli"
    print("The store is still there. Try:")
    print(f"  export KITARU_STORE={near(STORE)}")
    print(f"  {name} executions list")
    print(f"  {name} executions get {exec_id[:13]} --output json")
    print(f"  {name} artifacts list {exec_id[:13]}")
    print(f"  {near(Path(sys.executable))} {near(HERE / 'research.py')} 'How are files locked?'")
    print(f"The whole report is in {near(FOLDER / 'report.md')}.")


def near(path: Path) -> str:
    """The path as one would type it here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def few(names: Sequence[str], shown: int = 6) -> str:
    """The first of many names."""
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more} more" if more > 0 else "") or "none"


def title(text: str) -> None:
    """A heading."""
    print(f"\n--- {text} " + "-" * max(4, 112 - len(text)), flush=True)


if __name__ == "__main__":
    sys.exit(main())
