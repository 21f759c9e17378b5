"""`kitaru executions resume`, `retry`, `replay`, `cancel`, `delete`: one, many, and every one of them in every state."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest

from kitaru.domain import commands as c
from kitaru.domain import events as e
from kitaru.runtime.code import target_of
from kitaru.runtime.trust import trust_tree
from kitaru.store.log import EventLog, Head
from kitaru.testing.events import new_id
from tests.cli.commands import environment
from tests.cli.conftest import Run
from tests.client.recording import append, completed, failure, opened, value, wait

FLOWS = """
from pathlib import Path
from kitaru import checkpoint, flow

Path("imported").touch()

@checkpoint
def step():
    return 1

@checkpoint
def fragile(path):
    if Path(path).exists():
        raise ValueError("broken")
    return 2

@flow
def simple():
    return step()

@flow
def breaks(path: str = "broken"):
    return step() + fragile(path)
"""
FAR, PAST = 10**17, 10


@pytest.fixture
def flows(folder: Path, log: EventLog) -> Path:
    """The file of the flows, in a trusted folder."""
    (folder / "flows.py").write_text(FLOWS)
    trust_tree(log.store_id, str(folder))
    return folder / "flows.py"


@pytest.fixture
def other(folder: Path, log: EventLog) -> Iterator[str]:
    """The lease of another process that lives."""
    program = (
        "import sys; from kitaru.store.leases import FileLeases as F; print(F(sys.argv[1]).acquire(), flush=True); input()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(folder / ".kitaru")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(),
    )  # fmt: skip
    assert child.stdout is not None
    yield child.stdout.readline().strip()
    child.communicate("\n")


def begun(log: EventLog, flows: Path, runner: str | None = "gone", stack: str = "local") -> Head:
    """An execution of `simple` with its step done, unless nobody ever ran it."""
    event = e.ExecutionStarted(
        at=1, flow_id="id of simple", flow_name="simple", project="default", target=target_of(str(flows), "simple"),
        options=e.FlowOptions(), stack=stack, tags=("t",), inputs=value({}),
    )  # fmt: skip
    head = log.execute(new_id(), c.Start(event, runner), 1)[0]
    return head if runner is None else append(log, head, opened(1), completed(1))


def suspended(log: EventLog, flows: Path, *events: e.EventBase) -> Head:
    return append(log, begun(log, flows), *events, e.ExecutionSuspended(at=5))


def answered(log: EventLog, flows: Path) -> Head:
    head = suspended(log, flows, wait(1))
    return log.execute(head.exec_id, c.Answer("approve", value(True), "me"), 6)[0]


def timer(expires_at: int) -> e.WaitOpened:
    return wait(1, "sleep", kind="timer", question=None, json_schema=None, expires_at=expires_at)


STATES: dict[str, Callable[[EventLog, Path, str], Head]] = {
    "queued": lambda log, flows, other: begun(log, flows, None, "worker"),
    "live": lambda log, flows, other: begun(log, flows, other),
    "live-waiting": lambda log, flows, other: append(log, begun(log, flows, other), wait(1)),
    "lost": lambda log, flows, other: begun(log, flows),
    "waiting": lambda log, flows, other: suspended(log, flows, wait(1)),
    "expired": lambda log, flows, other: suspended(log, flows, wait(1, expires_at=PAST)),
    "sleeping": lambda log, flows, other: suspended(log, flows, timer(FAR)),
    "due": lambda log, flows, other: suspended(log, flows, timer(PAST)),
    "answered": lambda log, flows, other: answered(log, flows),
    "completed": lambda log, flows, other: append(log, begun(log, flows), e.ExecutionCompleted(at=9, output=value(1))),
    "failed": lambda log, flows, other: append(log, begun(log, flows), failure()),
    "cancelled": lambda log, flows, other: log.execute(begun(log, flows).exec_id, c.Cancel("me", 1), 9)[0],
}
OPERATIONS: dict[str, tuple[str, ...]] = {
    "input": ("input", "{id}", "--wait", "approve", "--value", "true"),
    "abort": ("input", "{id}", "--wait", "approve", "--abort"),
    "resume": ("resume", "{id}"),
    "retry": ("retry", "{id}"),
    "replay": ("replay", "{id}", "--from", "step"),
    "cancel": ("cancel", "{id}"),
    "delete": ("delete", "{id}", "--yes"),
}

# What stands in a cell is the status afterwards, `new` for a new execution that completed, `gone` for a deleted one, and
# `.` for a refusal: exit code 4, and nothing appended. `stopping` is a live runner that was told to.
TABLE = """
               input      abort      resume     retry      replay     cancel     delete
queued         .          .          completed  .          .          cancelled  .
live           .          .          .          .          .          stopping   .
live-waiting   running    stopping   .          .          .          stopping   .
lost           .          .          completed  .          new        cancelled  .
waiting        running    cancelled  .          .          new        cancelled  .
expired        .          .          completed  .          new        cancelled  .
sleeping       .          .          .          .          new        cancelled  .
due            .          .          completed  .          new        cancelled  .
answered       .          .          completed  .          new        cancelled  .
completed      .          .          .          .          new        .          gone
failed         .          .          .          completed  new        .          gone
cancelled      .          .          .          .          new        .          gone
"""
_HEADER, *_ROWS = [line.split() for line in TABLE.strip("\n").splitlines()]
CELLS = [(row[0], operation, cell) for row in _ROWS for operation, cell in zip(_HEADER, row[1:], strict=True)]


@pytest.mark.parametrize(("state", "operation", "cell"), CELLS)
def test_every_operation_in_every_state(
    run: Run, log: EventLog, flows: Path, other: str, state: str, operation: str, cell: str
) -> None:
    head = STATES[state](log, flows, other)
    before = log.last_position()
    ran = run("executions", *(word.format(id=head.exec_id) for word in OPERATIONS[operation]), "-o", "json")
    assert "Traceback" not in ran.err
    if cell == ".":
        assert (ran.code, ran.error["type"]) == (4, "KitaruStateError")
        assert log.last_position() == before
        return
    assert ran.code == 0, ran.err
    item = cast("dict[str, object]", ran.json["item"])
    if cell == "gone":
        assert run("executions", "get", head.exec_id).code == 3
    elif cell == "new":
        assert (item["status"], item["original_exec_id"]) == ("completed", head.exec_id)
        assert log.head(head.exec_id).version == head.version
    elif cell == "stopping":
        assert str(item["status_reason"]).startswith("cancel requested")
    else:
        assert item["status"] == cell


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_on_an_unknown_id_is_exit_3(run: Run, log: EventLog, flows: Path, operation: str) -> None:
    begun(log, flows)
    words = [word.format(id="ffffffff") for word in OPERATIONS[operation]]
    assert run("executions", *words).code == 3


def test_a_retry_runs_the_failed_part_alone_and_prints_the_value(run: Run, flows: Path, folder: Path) -> None:
    (folder / "broken").touch()
    item = cast("dict[str, str]", run("run", "flows.py:breaks", "-o", "json").json["item"])
    assert item["status"] == "failed"
    assert run("executions", "retry", item["exec_id"]).code == 1
    (folder / "broken").unlink()
    ran = run("executions", "retry", item["exec_id"], "-o", "json")
    assert (ran.json["command"], ran.json["value"]) == ("executions.retry", 3)
    calls = cast("dict[str, list[dict[str, list[object]]]]", ran.json["item"])["checkpoints"]
    assert [len(call["attempts"]) for call in calls] == [1, 3]


def test_a_detached_retry_is_left_to_a_worker(run: Run, log: EventLog, flows: Path) -> None:
    head = STATES["failed"](log, flows, "")
    ran = run("executions", "retry", head.exec_id, "--detach", "-o", "json")
    item = cast("dict[str, object]", ran.json["item"])
    assert (ran.code, item["status"], item["runner"]) == (0, "running", "queued")


def test_a_replay_with_overrides_and_inputs(run: Run, log: EventLog, flows: Path, folder: Path) -> None:
    item = cast("dict[str, str]", run("run", "flows.py:breaks", "-o", "json").json["item"])
    ran = run(
        "executions", "replay", item["exec_id"], "--from", "fragile", "--overrides", '{"checkpoint.step": 40}',
        "--args", '{"path": "other"}', "-o", "json",
    )  # fmt: skip
    assert (ran.code, ran.json["value"]) == (0, 42)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ((), 2),
        (("--from", "nope"), 4),
        (("--from", "step", "--args", "{bad"), 2),
        (("--from", "step", "--args", "[1]"), 2),
        (("--from", "step", "--args", '{"unknown": 1}'), 2),
        (("--from", "step", "--overrides", '{"step": 1}'), 2),
        (("--from", "step", "--overrides", '{"checkpoint.nope": 1}'), 4),
    ],
)
def test_a_bad_replay_starts_nothing(run: Run, log: EventLog, flows: Path, words: tuple[str, ...], code: int) -> None:
    head = STATES["completed"](log, flows, "")
    before = log.last_position()
    ran = run("executions", "replay", head.exec_id, *words)
    assert (ran.code, log.last_position(), "Traceback" in ran.err) == (code, before, False)


@pytest.mark.parametrize(("state", "operation"), [("lost", "resume"), ("failed", "retry"), ("completed", "replay")])
def test_a_copied_store_runs_no_code_that_is_not_trusted(
    run: Run,
    log: EventLog,
    flows: Path,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    state: str,
    operation: str,
) -> None:
    head = STATES[state](log, flows, "")
    shutil.copytree(folder / ".kitaru", tmp_path / "copy")
    monkeypatch.setenv("KITARU_CONFIG_DIR", str(tmp_path / "another user's"))
    store = ("--store", str(tmp_path / "copy"))
    before = run("executions", "events", head.exec_id, *store).out
    ran = run("executions", *(word.format(id=head.exec_id) for word in OPERATIONS[operation]), *store, "-o", "json")
    assert (ran.code, ran.error["code"]) == (1, "not-trusted")
    assert "kitaru trust" in ran.error["message"]
    assert run("executions", "events", head.exec_id, *store).out == before
    assert not (folder / "imported").exists()


def test_what_a_refused_resume_could_not_load_stays_as_it_was(run: Run, log: EventLog, flows: Path) -> None:
    head = STATES["lost"](log, flows, "")
    flows.unlink()
    ran = run("executions", "resume", head.exec_id, "-o", "json")
    assert (ran.code, ran.error["code"], log.head(head.exec_id).version) == (1, "not-loadable", head.version)


def test_another_place_of_the_code_may_be_named(run: Run, log: EventLog, flows: Path, tmp_path: Path) -> None:
    head = STATES["lost"](log, flows, "")
    moved = tmp_path / "moved.py"
    flows.rename(moved)
    assert run("executions", "resume", head.exec_id, "--target", f"{moved}:simple").code == 0


def test_a_dry_run_names_what_it_would_be_and_changes_nothing(run: Run, log: EventLog, flows: Path) -> None:
    heads = [STATES[state](log, flows, "") for state in ("failed", "failed", "completed", "lost")]
    before = log.last_position()
    for operation, would in (("retry", heads[:2]), ("cancel", heads[3:]), ("resume", heads[3:])):
        ran = run("executions", operation, "--tag", "t", "--dry-run", "-o", "json")
        items = cast("list[dict[str, dict[str, object]]]", ran.json["items"])
        assert [item["execution"]["exec_id"] for item in items] == [head.exec_id for head in would]
        assert {item["outcome"] for item in items} == {"would"}
    assert log.last_position() == before


def test_bulk_wants_to_be_told_twice(run: Run, log: EventLog, flows: Path) -> None:
    head = STATES["lost"](log, flows, "")
    assert run("executions", "cancel", "--flow", "simple").code == 2
    assert log.head(head.exec_id).version == head.version


@pytest.mark.parametrize(
    "words",
    [
        ("cancel",),
        ("retry", "--yes"),
        ("retry", "--status", "completed"),
        ("cancel", "--status", "nope"),
        ("resume", "--where", "x"),
    ],
)
def test_a_bulk_command_that_says_too_little_is_exit_2(run: Run, log: EventLog, flows: Path, words: tuple[str, ...]) -> None:
    STATES["lost"](log, flows, "")
    assert run("executions", *words).code == 2


def test_an_id_and_filters_together_are_exit_2(run: Run, log: EventLog, flows: Path) -> None:
    head = STATES["lost"](log, flows, "")
    assert run("executions", "cancel", head.exec_id, "--status", "running").code == 2


def test_bulk_cancel_takes_all_that_match(run: Run, log: EventLog, flows: Path) -> None:
    heads = [STATES[state](log, flows, "") for state in ("lost", "waiting", "sleeping", "completed")]
    ran = run("executions", "cancel", "--flow", "simple", "--yes", "-o", "json")
    assert (ran.code, ran.json["command"], ran.json["count"]) == (0, "executions.cancel", 3)
    assert [log.head(head.exec_id).state.status for head in heads] == ["cancelled", "cancelled", "cancelled", "completed"]


def test_bulk_resume_goes_on_with_what_can(run: Run, log: EventLog, flows: Path) -> None:
    heads = [STATES[state](log, flows, "") for state in ("lost", "answered", "waiting", "sleeping")]
    ran = run("executions", "resume", "--tag", "t", "--yes")
    assert ran.code == 0
    assert [log.head(head.exec_id).state.status for head in heads] == ["completed", "completed", "waiting", "waiting"]


def test_one_that_is_refused_does_not_keep_the_others_back(run: Run, log: EventLog, flows: Path, tmp_path: Path) -> None:
    gone = tmp_path / "gone.py"
    gone.write_text(FLOWS)
    first, second = append(log, begun(log, gone), failure()), STATES["failed"](log, flows, "")
    ran = run("executions", "retry", "--status", "failed", "--yes", "-o", "json")
    items = cast("list[dict[str, object]]", ran.json["items"])
    assert [item["outcome"] for item in items] == ["refused", "done"]
    assert ran.code == 1
    assert log.head(first.exec_id).version == first.version
    assert log.head(second.exec_id).state.status == "completed"


def test_nothing_that_matches_is_no_error(run: Run, log: EventLog, flows: Path) -> None:
    ran = run("executions", "retry", "--flow", "nope", "--yes")
    assert (ran.code, ran.err) == (0, "no executions match\n")


# --- recover ----------------------------------------------------------------------------------------------------------


def test_recover_takes_what_is_lost_and_leaves_what_is_queued_to_the_workers(run: Run, log: EventLog, flows: Path) -> None:
    heads = [STATES[state](log, flows, "") for state in ("queued", "lost", "answered", "due", "waiting")]
    ran = run("recover", "-o", "json")
    assert ran.code == 0
    assert [item["exec_id"] for item in ran.json["items"]] == [head.exec_id for head in heads[1:4]]  # type: ignore[index]
    assert [str(log.head(head.exec_id).state.status) for head in heads] == ["running", *["completed"] * 3, "waiting"]
    assert log.head(heads[0].exec_id).version == heads[0].version
    assert run("recover").err == "nothing to recover\n"


def test_what_is_queued_runs_here_when_recover_names_it(run: Run, log: EventLog, flows: Path) -> None:
    head = STATES["queued"](log, flows, "")
    assert run("recover", head.exec_id[:30]).code == 0
    assert log.head(head.exec_id).state.status == "completed"


@pytest.mark.parametrize("state", ["live", "live-waiting", "waiting", "sleeping", "completed", "failed", "cancelled"])
def test_what_is_not_lost_is_not_recovered_by_its_id(run: Run, log: EventLog, flows: Path, other: str, state: str) -> None:
    head = STATES[state](log, flows, other)
    before = log.head(head.exec_id)
    assert run("recover", head.exec_id).code == 4
    assert log.head(head.exec_id) == before
