"""The prompt of a wait, on a real terminal (a pty), and answers that come from elsewhere first."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kitaru.domain.events import WaitResolved
from kitaru.store.log import EventLog
from kitaru.store.values import decode
from tests.runtime import scripts
from tests.runtime.crashing import PATIENCE
from tests.runtime.records import of_type
from tests.runtime.waiting import answer, pending, until

FLOW = """
from kitaru import flow, wait

@flow
def asks():
    return wait(schema={schema}, name="n", question="how \\x1b[2J many?")

if __name__ == "__main__":
    print("value", repr(asks.run().wait()), flush=True)
"""


class Terminal:
    """A process whose standard streams are a terminal, and what stands on it."""

    def __init__(self, path: Path, store: Path) -> None:
        self._leader, follower = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", str(path)],
            stdin=follower,
            stdout=follower,
            stderr=follower,
            env=scripts.environment(store),
            close_fds=True,
        )
        os.close(follower)
        self.text = ""

    def shows(self, text: str) -> None:
        """Wait until the text stands there."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.text:
            assert time.monotonic() < deadline, f"{text!r} is not there: {self.text!r}"
            ready, _, _ = select.select([self._leader], [], [], 0.1)
            if ready:
                try:
                    self.text += os.read(self._leader, 4096).decode()
                except OSError:  # the process has ended
                    assert text in self.text, self.text
                    return

    def type(self, line: str) -> None:
        """Type a line."""
        os.write(self._leader, f"{line}\n".encode())

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._leader)


@pytest.fixture
def terminal(tmp_path: Path, store: Path, request: pytest.FixtureRequest) -> Iterator[Terminal]:
    schema = getattr(request, "param", "int")
    path = tmp_path / "flows" / "asking.py"
    path.parent.mkdir()
    path.write_text(FLOW.replace("{schema}", schema))
    opened = Terminal(path, store)
    yield opened
    opened.close()


def only(log: EventLog) -> str:
    """The id of the store's only execution, once it waits."""
    until(log, lambda: log.query("SELECT count(*) FROM pending_waits") == [(1,)])
    return str(log.query("SELECT exec_id FROM executions")[0][0])


def test_a_line_typed_on_the_terminal_is_the_answer(terminal: Terminal, log: EventLog) -> None:
    terminal.shows("[n]> ")
    terminal.type("42")
    terminal.shows("value 42")
    assert terminal.process.wait(PATIENCE) == 0


def test_a_line_that_does_not_fit_is_refused_and_asked_again(terminal: Terminal, log: EventLog) -> None:
    terminal.shows("[n]> ")
    terminal.type("many")
    terminal.shows("integer")
    terminal.type("7")
    terminal.shows("value 7")


def test_the_answer_is_by_the_user_of_the_system(terminal: Terminal, log: EventLog) -> None:
    import getpass

    terminal.shows("[n]> ")
    exec_id = only(log)
    terminal.type("1")
    terminal.shows("value 1")
    assert of_type(log, exec_id, WaitResolved)[0].by == getpass.getuser()


def test_somebody_elsewhere_can_answer_first(terminal: Terminal, log: EventLog) -> None:
    terminal.shows("[n]> ")
    answer(log, only(log), "n", 5)
    terminal.shows("value 5")
    assert terminal.process.wait(PATIENCE) == 0


def test_the_question_moves_no_cursor(terminal: Terminal) -> None:
    terminal.shows("[n]> ")
    assert "\\x1b[2J" in terminal.text


@pytest.mark.parametrize("terminal", ["str"], indirect=True)
@pytest.mark.parametrize(("typed", "expected"), [("yes", "yes"), ("5", "5"), ('"5"', "5"), ("", "")])
def test_a_text_needs_no_quotes(terminal: Terminal, log: EventLog, typed: str, expected: str) -> None:
    terminal.shows("[n]> ")
    exec_id = only(log)
    terminal.type(typed)
    terminal.shows(f"value {expected!r}")
    (resolved,) = of_type(log, exec_id, WaitResolved)
    assert decode(resolved.value.data or b"") == expected


@pytest.mark.parametrize("terminal", ["None"], indirect=True)
def test_the_return_key_opens_a_gate(terminal: Terminal) -> None:
    terminal.shows("[n]> ")
    terminal.type("")
    terminal.shows("value None")


TWO = """
import threading, time
from kitaru import flow, wait

@flow
def first():
    return wait(schema=int, name="first")

@flow
def second():
    return wait(schema=int, name="second")

if __name__ == "__main__":
    one, two = first.run(), None
    time.sleep(0.3)
    two = second.run()
    print("values", one.wait(), two.wait(), flush=True)
"""


def test_what_is_typed_answers_the_question_that_stands_there(tmp_path: Path, store: Path, log: EventLog) -> None:
    path = tmp_path / "flows" / "two.py"
    path.parent.mkdir()
    path.write_text(TWO)
    terminal = Terminal(path, store)
    try:
        terminal.shows("[first]> ")
        until(log, lambda: log.query("SELECT count(*) FROM pending_waits") == [(2,)])
        terminal.type("1")
        terminal.shows("[second]> ")
        terminal.type("2")
        terminal.shows("values 1 2")
    finally:
        terminal.close()


CLOSED = """
import os, sys
from kitaru import flow, wait

@flow
def asks():
    return wait(schema=int, name="n", expires_in=0.05, default=4)

if __name__ == "__main__":
    sys.stdin.close()
    sys.stdin = {stdin}
    print("value", asks.run().wait())
"""


@pytest.mark.parametrize("stdin", ["None", "sys.stdin"])
def test_without_a_standard_input_nothing_is_asked(tmp_path: Path, store: Path, stdin: str) -> None:
    path = tmp_path / "flows" / "closed.py"
    path.parent.mkdir()
    path.write_text(CLOSED.replace("{stdin}", stdin))
    terminal = Terminal(path, store)
    try:
        terminal.shows("value 4")
    finally:
        terminal.close()


def test_waits_that_are_no_longer_pending_are_not_asked(tmp_path: Path, store: Path, log: EventLog) -> None:
    path = tmp_path / "flows" / "asking.py"
    path.parent.mkdir()
    path.write_text(FLOW.replace("{schema}", "int"))
    terminal = Terminal(path, store)
    try:
        terminal.shows("[n]> ")
        exec_id = only(log)
        terminal.type("1")
        terminal.shows("value 1")
        assert pending(log, exec_id) == []
        assert terminal.text.count("[n]> ") == 1
    finally:
        terminal.close()
