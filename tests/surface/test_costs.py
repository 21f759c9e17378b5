"""What the hot paths cost, counted: modules imported, transactions, statements. Counts do not depend on the machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import kitaru

ROOT = Path(kitaru.__file__).parents[1]

# --- imports -----------------------------------------------------------------------------------------------------------

DECORATED = """
import sys
before = set(sys.modules)
from kitaru import checkpoint, flow

@checkpoint
def step(x: int) -> int:
    return x

@flow
def work(x: int) -> int:
    return step(x)

found = sorted(sys.modules.keys() - before)
import json
print(json.dumps(found))
"""
LISTED = """
import json, sys
from kitaru.cli import main
main(["executions", "list"])
print(json.dumps([*sys.modules]))
"""
HEAVY = {
    "pydantic", "pydantic_core", "orjson", "asyncio", "sqlite3", "eventsourcing", "duckdb", "typer", "dataclasses",
    "inspect",
}  # fmt: skip


def imported(code: str, folder: Path) -> list[str]:
    """The modules that the code names in its last line, run by a fresh interpreter."""
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment(folder), capture_output=True, text=True, check=True
    )
    return json.loads(ran.stdout.splitlines()[-1])


def packages(modules: list[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


def environment(folder: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KITARU_", "PYTHON", "COV"))}
    return {**kept, "PYTHONPATH": str(ROOT), "KITARU_STORE": str(folder / "store"), "KITARU_CONFIG_DIR": str(folder), **more}


def test_decorating_a_flow_and_a_checkpoint_imports_nothing_heavy(tmp_path: Path) -> None:
    found = packages(imported(DECORATED, tmp_path))
    assert "kitaru" in found
    assert found & HEAVY == set()


def test_decorating_imports_few_modules(tmp_path: Path) -> None:
    """All that it takes, the standard library's as well: a new one has to be worth its time."""
    modules = imported(DECORATED, tmp_path)
    assert len([name for name in modules if name.startswith("kitaru")]) <= 12, modules
    assert len(modules) <= 60, modules


def test_listing_imports_neither_eventsourcing_nor_duckdb(tmp_path: Path) -> None:
    run(tmp_path, "run", 1)
    found = packages(imported(LISTED, tmp_path))
    assert {"kitaru", "typer", "sqlite3"} <= found, "nothing was listed"
    assert found & {"eventsourcing", "duckdb"} == set()


COMMANDS = ["executions list", "executions get ID", "executions latest", "executions list -o json", "status", "stack list"]
STARTS = {"duckdb", "eventsourcing", "mcp", "pydantic_ai", "starlette", "cryptography", "plotext", "anyio", "rich"}
"""What costs tenths of a second, and none of these commands needs off a terminal."""


@pytest.mark.parametrize("words", [*COMMANDS, "--help", "--version", "executions --help", "mcp --help", "export --help"])
def test_a_command_imports_nothing_that_it_does_not_need(tmp_path: Path, words: str) -> None:
    run(tmp_path, "run", 1)
    program = f"""
import json, sys
from kitaru.cli import main
words = {words.split()!r}
if "ID" in words:
    import sqlite3, os
    store = sqlite3.connect(os.path.join(os.environ["KITARU_STORE"], "kitaru.db"))
    words[words.index("ID")] = store.execute("SELECT exec_id FROM executions").fetchone()[0]
code = main(words)
print(json.dumps([code, *sys.modules]))
"""
    code, *modules = imported(program, tmp_path)
    assert code == 0, words
    assert packages(modules) & STARTS == set(), words


@pytest.mark.parametrize("words", ["executions list", "executions get --help", "status", "run --help"])
def test_a_command_imports_the_modules_of_no_other_group(tmp_path: Path, words: str) -> None:
    program = f"import json, sys; from kitaru.cli import main; main({words.split()!r}); print(json.dumps([*sys.modules]))"
    homes = {name.rpartition(".")[2] for name in imported(program, tmp_path) if name.startswith("kitaru.cli.")}
    assert (
        homes & {"store", "stacks", "artifacts", "models", "secrets", "exporting", "statistics", "charts", "screen"} == set()
    )


STATISTICS = """
import json, sys
from kitaru.cli import main
main(["executions", "statistics", "--group-by", "status"])
print(json.dumps([*sys.modules]))
"""


def test_listing_imports_nothing_of_statistics(tmp_path: Path) -> None:
    run(tmp_path, "run", 1)
    found = imported(LISTED, tmp_path)
    assert [name for name in found if name.startswith(("kitaru.analytics", "kitaru.client.statistics"))] == []


def test_statistics_import_duckdb_only_where_there_is_something_to_count(tmp_path: Path) -> None:
    assert packages(imported(STATISTICS, tmp_path)) & {"duckdb", "eventsourcing", "plotext"} == set()
    run(tmp_path, "run", 1)
    assert packages(imported(STATISTICS, tmp_path)) & {"duckdb", "eventsourcing", "plotext"} == {"duckdb"}


# --- statements --------------------------------------------------------------------------------------------------------

PROGRAM = '''
"""A flow of n trivial checkpoints, in a process that notes every statement of every connection."""
import json, os, sqlite3, sys, threading

seen, marks, ran = [], [], set()
connect = sqlite3.connect

def note(statement):
    seen.append((threading.get_ident(), statement))

def traced(*args, **kwargs):
    connection = connect(*args, **kwargs)
    connection.set_trace_callback(note)
    return connection

sqlite3.connect = traced

from kitaru import KitaruClient, checkpoint, flow

@checkpoint
def step(x):
    for line in range(int(os.environ.get("PRINTS", 0))):
        print("line", line, file=sys.stderr)
    return x

@flow
def work(n):
    ran.add(threading.get_ident())
    for i in range(n):
        marks.append(len(seen))
        step(i)
    marks.append(len(seen))
    if os.environ.get("DIE"):
        os.kill(os.getpid(), 9)
    return n

if __name__ == "__main__":
    if sys.argv[1] == "run":
        work.run(int(sys.argv[2])).wait()
    else:
        (found,) = KitaruClient().executions.recover()
        from kitaru.runtime import process
        process.join_all()
    steps = [[sql for thread, sql in seen[a:b] if thread in ran] for a, b in zip(marks, marks[1:])]  # others wait and watch
    print(json.dumps({"steps": steps, "all": [sql for _, sql in seen]}))
'''


def run(folder: Path, how: str, steps: int, **more: str) -> dict[str, Any]:
    """What the program saw; nothing when it killed itself."""
    program = folder / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, str(program), how, str(steps)]
    ran = subprocess.run(command, cwd=folder, env=environment(folder, **more), capture_output=True, text=True, check=False)
    if "DIE" in more:
        assert ran.returncode == -signal.SIGKILL, ran.stderr
        return {}
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    for step in found["steps"]:  # whoever waits for the end asks now and then whether another process has committed
        step[:] = [sql for sql in step if sql != "PRAGMA data_version"]
    return found


def words(statements: list[str]) -> list[str]:
    return [" ".join(statement.split()[:3]) for statement in statements]


CHECKPOINT = [
    "PRAGMA synchronous =", "BEGIN IMMEDIATE", "UPDATE streams SET", "INSERT INTO events", "UPDATE executions SET", "COMMIT",
    "PRAGMA synchronous =", "BEGIN IMMEDIATE", "UPDATE streams SET", "INSERT INTO events", "UPDATE executions SET", "COMMIT",
]  # fmt: skip
"""Its attempt, which need not be on disk, and its outcome, which has to be."""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run(tmp_path_factory.mktemp("costs"), "run", 5)


def test_a_checkpoint_costs_two_commits(ran: dict[str, Any]) -> None:
    for step in ran["steps"]:
        assert step.count("COMMIT") == 2


def test_a_checkpoint_costs_one_transaction_that_is_synced(ran: dict[str, Any]) -> None:
    for step in ran["steps"]:
        levels = [sql.rpartition(" ")[2] for sql in step if sql.startswith("PRAGMA synchronous")]
        assert levels == ["NORMAL", "FULL"]


def test_a_checkpoint_costs_these_statements_and_reads_nothing(ran: dict[str, Any]) -> None:
    for step in ran["steps"]:
        assert words(step) == CHECKPOINT


def test_lines_of_a_log_cost_no_commit_of_their_own(ran: dict[str, Any], tmp_path: Path) -> None:
    """They ride with the outcome; who prints for longer than half a second has a transaction beside it, without a sync."""
    loud = run(tmp_path, "run", 5, PRINTS="100")
    for step in loud["steps"]:
        lines = [sql for sql in step if sql.startswith("INSERT INTO logs")]
        assert words([sql for sql in step if sql not in lines]) == CHECKPOINT
        assert step[len(step) - 1 - len(lines) :] == [*lines, "COMMIT"], "they are in the outcome's transaction"
    assert len([sql for sql in loud["all"] if sql.startswith("INSERT INTO logs")]) == 500
    assert [sql for sql in ran["all"] if "INTO logs" in sql] == [], "who prints nothing pays nothing"


def test_a_recorded_call_costs_no_statement_when_its_execution_goes_on(tmp_path: Path) -> None:
    run(tmp_path, "run", 30, DIE="1")
    resumed = run(tmp_path, "recover", 30)
    assert resumed["steps"] == [[]] * 30
    assert any(sql.startswith("INSERT INTO events") for sql in resumed["all"]), "the statements are no longer seen"


def test_going_on_costs_as_many_statements_after_ten_times_the_calls(tmp_path: Path) -> None:
    counted = []
    for steps in (5, 50):
        folder = tmp_path / str(steps)
        folder.mkdir()
        run(folder, "run", steps, DIE="1")
        counted.append(len([sql for sql in run(folder, "recover", steps)["all"] if "data_version" not in sql]))
    assert counted[0] == counted[1] > 10
