"""Asking on the terminal while a wait is open. Whoever answers first, here or elsewhere, has answered."""

from __future__ import annotations

import select
import sys
import threading

from kitaru.domain.choices import chosen, described
from kitaru.domain.errors import KitaruError, KitaruStateError
from kitaru.runtime import terminal
from kitaru.runtime.capture import plain
from kitaru.runtime.history import RecordedWait
from kitaru.runtime.operations import answer_text
from kitaru.store.log import EventLog

_SLICE_SECONDS = 0.05
"""The longest time without a look at whether somebody answered elsewhere."""
_terminal = threading.Lock()
"""Held by the wait that asks: what is typed is for the question that stands there."""


class Prompt:
    """One wait's prompt: the question is shown once the terminal is free, lines are read while there is time to look."""

    def __init__(self, log: EventLog, exec_id: str, recorded: RecordedWait, question: str | None, schema: object) -> None:
        self._log = log
        self._exec_id = exec_id
        self._recorded = recorded
        self._question = question
        self._schema = schema
        self._asks = False
        self._ended = False

    def ask(self, seconds: float) -> bool:
        """Give a line typed within `seconds`, or a shorter time, as the answer; False: nobody can type here now."""
        if self._ended:
            return False
        if not self._asks:
            if not _terminal.acquire(blocking=False):
                return False
            self._asks = True
            question = self._question or f"the flow waits for {self._recorded.name!r}"
            self._show(f"\r\x1b[K{_clean(question)}\nanswer with {_clean(described(self._schema))}\n")
        ready, _, _ = select.select([sys.stdin], [], [], min(seconds, _SLICE_SECONDS))
        if not ready:
            return True
        line = sys.stdin.readline()
        with terminal.writing("stdout", line):
            pass  # it was typed: the terminal shows it
        if not line:
            self.close()
            return False
        try:
            answer_text(self._log, self._exec_id, self._recorded.name, chosen(self._schema, line.rstrip("\n")))
        except KitaruStateError:
            pass  # somebody else answered
        except KitaruError as refused:
            self._show(f"{_clean(str(refused))}\n")
        else:
            self._release()
        return True

    def close(self) -> None:
        """Nothing more is asked here; the line of the prompt ends where it was not typed."""
        self._ended = True
        if self._asks:
            self._write("\n")
        self._release()

    def _release(self) -> None:
        self._ended = True
        if self._asks:
            self._asks = False
            _terminal.release()

    def _show(self, text: str) -> None:
        self._write(f"{text}[{self._recorded.name}]> ")

    @staticmethod
    def _write(text: str) -> None:
        stdout = plain(sys.stdout)  # what is asked here is no word of the flow's
        with terminal.writing("stdout", text):
            stdout.write(text)
            stdout.flush()


def _clean(text: str) -> str:
    """Text that moves no cursor."""
    return "".join(char if char.isprintable() or char in "\n\t" else char.encode("unicode_escape").decode() for char in text)
