"""The main commands on a real terminal: what its screen shows, and when."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kitaru import compose
from kitaru.domain import events as e
from kitaru.runtime.trust import trust_tree
from kitaru.settings import StoreChoice
from kitaru.store.log import EventLog
from tests.cli.commands import run, run_json
from tests.cli.terminal import Screen, Terminal
from tests.client.recording import append, completed, opened, started, value, wait

pytestmark = pytest.mark.timeout(90)
FLOW = """
import time
from enum import Enum
from kitaru import checkpoint, flow, wait

class Colour(Enum):
    RED = "red"
    GREEN = "green"

@checkpoint
def step(i):
    return i

@checkpoint
def slow(path):
    while not open(path).read():
        time.sleep(0.02)

@flow
def waits():
    step(1)
    return str(wait(schema=Colour, name="colour", question="Which colour?", timeout=30))

@flow
def works(path):
    for i in range(40):
        step(i)
    slow(path)
    return "done"
"""


@pytest.fixture
def flows(folder: Path) -> Path:
    (folder / "flows.py").write_text(FLOW)
    (folder / "gate").write_text("")
    return folder


def has(text: str) -> object:
    return lambda lines: any(text in line for line in lines)


# --- the screen itself ---


def test_a_screen_moves_erases_and_scrolls() -> None:
    screen = Screen(5, 3)
    screen.feed("abc\r\nde\x1b[1A\x1b[2K\rxy\n\nz\x1b[31mw\x1b[0m\n")
    assert screen.lines() == ["de", "  zw"]
    assert screen.colours == 1


# --- what is drawn once ---


@pytest.fixture
def stored(folder: Path, log: EventLog) -> str:
    """An execution that waits, with something nasty in it."""
    head = started(log, "agent\x1b[2J", tags=("nightly",), metadata={"customer_tier": "enterprise"})
    head = append(log, head, opened(1), completed(1), wait(1, "approve", question="Ship\x07 it?"))
    append(log, head, e.ExecutionSuspended(at=5))
    return head.exec_id


def test_a_list_is_a_table_in_colour(folder: Path, stored: str) -> None:
    with Terminal(folder, "executions", "list", columns=200) as terminal:
        code, lines = terminal.end()
    assert code == 0
    assert lines[0].split() == ["Execution", "Flow", "Status", "Started", "Duration", "Checkpoints", "Tags", "Note"]
    assert lines[1].startswith(stored)
    assert "agent\\x1b[2J" in lines[1]
    assert "waiting for approve" in lines[1]
    assert "\x1b[33mwaiting" in terminal.written


def test_no_color_is_honoured(folder: Path, stored: str) -> None:
    with Terminal(folder, "executions", "list", columns=200, NO_COLOR="1") as terminal:
        assert terminal.end()[0] == 0
        assert "\x1b[33m" not in terminal.written


def test_a_narrow_terminal_keeps_the_id_whole(folder: Path, stored: str) -> None:
    with Terminal(folder, "executions", "list", columns=60) as terminal:
        code, lines = terminal.end()
    assert code == 0
    assert stored in lines[1]
    assert all(len(line) <= 60 for line in lines)


def test_a_narrow_terminal_shows_notes_below(folder: Path, stored: str) -> None:
    with Terminal(folder, "executions", "list", columns=80) as terminal:
        code, lines = terminal.end()
    assert code == 0
    assert lines[0].split() == ["Execution", "Flow", "Status"]
    assert "".join(lines[2:]).startswith(f"{stored}: waiting for approve")


def test_columns_that_say_nothing_give_way_first(folder: Path, stored: str) -> None:
    with Terminal(folder, "executions", "list", columns=135) as terminal:
        code, lines = terminal.end()
    assert code == 0
    assert lines[0].split() == ["Execution", "Flow", "Status", "Started", "Checkpoints", "Tags", "Note"]
    assert len(lines) == 2


def test_get_and_status_show_their_fields(folder: Path, stored: str) -> None:
    with Terminal(folder, "executions", "get", stored[:20]) as terminal:
        code, lines = terminal.end()
    assert code == 0
    assert lines[0].split() == ["Execution", stored]
    assert has("Question   Ship\\x07 it?")(lines)  # type: ignore[operator]
    assert has('customer_tier   "enterprise"')(lines)  # type: ignore[operator]
    with Terminal(folder, "status") as terminal:
        code, lines = terminal.end()
    assert (code, lines[0].split()[0]) == (0, "Store")
    assert has("1 waiting")(lines)  # type: ignore[operator]


def test_an_error_is_one_line(folder: Path, stored: str) -> None:
    with Terminal(folder, "executions", "get", "ffff", columns=300) as terminal:
        code, lines = terminal.end()
    assert (code, len(lines)) == (3, 1)
    assert lines[0].startswith("Error: no execution 'ffff'")


# --- what is drawn again ---


def test_watch_draws_over_itself_and_leaves_the_end(flows: Path) -> None:
    trust_tree(compose.open_log(StoreChoice(str(flows / ".kitaru"), "")).store_id, str(flows))
    with Terminal(flows, "run", "flows.py:works", "-i", '{"path": "gate"}') as runner:
        runner.until(has("41 checkpoints"))  # type: ignore[arg-type]
        exec_id = run_json("executions", "latest", cwd=flows)["item"]["exec_id"]
        with Terminal(flows, "executions", "watch", exec_id, "--interval", "0.05", rows=16) as terminal:
            lines = terminal.until(has("slow"))  # type: ignore[arg-type]
            assert lines[0].split()[:2] == ["works", "running"]
            assert len(lines) <= 16
            assert has("and 31 before these")(lines)  # type: ignore[operator]
            assert not terminal.screen.is_cursor_shown
            seen = len(terminal.written)
            while len(terminal.written) < seen + 2_000:  # it spins
                terminal.read()
            assert sum("works" in line for line in terminal.screen.lines()) == 1
            (flows / "gate").write_text("open")
            code, lines = terminal.end()
        assert code == 0
        assert lines[-1] == f"{exec_id} completed"
        assert terminal.screen.is_cursor_shown
        assert not has("before these")(lines)  # type: ignore[operator]
        assert runner.end()[0] == 0


def test_ctrl_c_leaves_the_watch_and_the_execution_goes_on(folder: Path, stored: str) -> None:
    with Terminal(folder, "executions", "watch", stored) as terminal:
        lines = terminal.until(has("? approve: Ship\\x07 it?"))  # type: ignore[arg-type]
        assert has(f"kitaru executions input {stored}")(lines)  # type: ignore[operator]
        terminal.interrupt()
        code, lines = terminal.end()
    assert code == 130
    assert lines[-1].startswith("it goes on; look again with: kitaru executions watch")
    assert terminal.screen.is_cursor_shown


def test_a_dumb_terminal_gets_lines(folder: Path, stored: str) -> None:
    with Terminal(folder, "executions", "watch", stored, TERM="dumb") as terminal:
        terminal.until(has("1/1 checkpoints"))  # type: ignore[arg-type]
        assert "\x1b" not in terminal.written


def test_an_export_shows_a_bar_that_gives_way_to_its_table(folder: Path, stored: str) -> None:
    with Terminal(folder, "export", "parquet") as terminal:
        code, lines = terminal.end()
    bars = re.findall(r"\rexport \[(#*)(\.*)\] (\d)/6", terminal.written)
    assert [len(done) + len(left) for done, left, _ in bars] == [30] * len(bars)
    assert [int(count) for *_, count in (bars[0], bars[-1])] == [1, 6]
    assert len(bars[-1][0]) == 30
    assert (code, has("/6")(lines)) == (0, False)  # type: ignore[operator]
    assert lines[0].split()[:2] == ["Table", "Rows"]
    assert lines[-1].startswith("exported to ")


def test_an_export_off_a_terminal_shows_no_bar(folder: Path, stored: str) -> None:
    ran = run("export", "parquet", cwd=folder)
    assert (ran.returncode, "[" in ran.stdout + ran.stderr) == (0, False)


def test_watch_off_a_terminal_prints_each_change_as_a_line(folder: Path, log: EventLog) -> None:
    head = started(log)
    append(log, head, e.ExecutionCancelled(at=9))
    ran = run("executions", "watch", head.exec_id, cwd=folder)
    assert (ran.returncode, ran.stdout, ran.stderr) == (1, "cancelled   0/0 checkpoints\n", f"{head.exec_id} cancelled\n")


# --- answering ---


def test_a_run_asks_with_its_choices_and_takes_a_beginning(flows: Path) -> None:
    with Terminal(flows, "run", "flows.py:waits") as terminal:
        lines = terminal.until(has("[colour]>"))  # type: ignore[arg-type]
        assert has("Which colour?")(lines)  # type: ignore[operator]
        assert has("answer with one of: red, green")(lines)  # type: ignore[operator]
        terminal.type("blue\n")
        terminal.until(has("does not fit"))  # type: ignore[arg-type]
        terminal.type("g\n")
        code, lines = terminal.end()
    assert code == 0
    assert has("Colour.GREEN")(lines)  # type: ignore[operator]


def test_interactive_asks_question_schema_and_choices(folder: Path, log: EventLog) -> None:
    schema = {"properties": {"ok": {"type": "boolean"}}, "required": ["ok"], "type": "object"}
    first = append(log, started(log), wait(1, "ship", question="Ship it?"))
    second = append(log, started(log), wait(1, "review", question=None, json_schema=value(schema)))
    for head in (first, second):
        append(log, head, e.ExecutionSuspended(at=5))
    with Terminal(folder, "executions", "input", "--interactive") as terminal:
        lines = terminal.until(has("answer (empty skips)>"))  # type: ignore[arg-type]
        assert has("Ship it?")(lines)  # type: ignore[operator]
        assert has("answer with one of: true, false")(lines)  # type: ignore[operator]
        terminal.type("y\n")
        lines = terminal.until(lambda shown: has('"ok": true|false')(shown) and shown[-1].startswith("answer ("))  # type: ignore[operator]
        assert has('schema: {"properties"')(lines)  # type: ignore[operator]
        terminal.type('{"ok": true}\n')
        code, lines = terminal.end()
    assert (code, lines[-1]) == (0, "answered 2 of 2")
    closed = [run_json("executions", "get", head.exec_id, cwd=folder)["item"]["waits"][0] for head in (first, second)]
    assert [each["value"] for each in closed] == [True, {"ok": True}]


def test_an_execution_alone_asks_on_a_terminal(folder: Path, stored: str) -> None:
    with Terminal(folder, "executions", "input", stored) as terminal:
        terminal.until(has("answer (empty skips)>"))  # type: ignore[arg-type]
        terminal.type("\n")
        code, lines = terminal.end()
    assert (code, lines[-1]) == (0, "answered 0 of 1")


def test_a_question_before_what_cannot_be_undone_is_answered_with_no(folder: Path, log: EventLog) -> None:
    head = append(log, started(log), e.ExecutionCancelled(at=9))
    with Terminal(folder, "executions", "delete", head.exec_id) as terminal:
        terminal.until(has("for ever? [y/N]"))  # type: ignore[arg-type]
        terminal.type("n\n")
        code, lines = terminal.end()
    assert (code, lines[-1].strip()) == (1, "Error: nothing was done")
    assert log.head(head.exec_id).version == head.version
