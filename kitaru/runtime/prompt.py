"""Asking on the terminal while a wait is open. Whoever answers first, here or elsewhere, has answered."""

from __future__ import annotations

import select
import sys

from kitaru.domain.errors import KitaruError, KitaruStateError
from kitaru.runtime.history import RecordedWait
from kitaru.runtime.operations import answer_text
from kitaru.store.log import EventLog


class Prompt:
    """One wait's prompt: the question is shown once, lines are read while somebody has time to look."""

    def __init__(self, log: EventLog, exec_id: str, recorded: RecordedWait, question: str | None) -> None:
        self._log = log
        self._exec_id = exec_id
        self._recorded = recorded
        self._question = question
        self._shown = False
        self._ended = False

    def ask(self, seconds: float) -> bool:
        """Give a line typed within `seconds` as the answer; whether the time has passed here (False: nobody can type)."""
        if self._ended:
            return False
        if not self._shown:
            self._shown = True
            shown = self._question or f"the flow waits for {self._recorded.name!r}"
            sys.stdout.write(f"\r\x1b[K{shown}\n[{self._recorded.name}]> ")
            sys.stdout.flush()
        ready, _, _ = select.select([sys.stdin], [], [], seconds)
        if not ready:
            return True
        line = sys.stdin.readline()
        if not line:
            self._ended = True
            return False
        try:
            answer_text(self._log, self._exec_id, self._recorded.name, line.rstrip("\n"))
        except KitaruStateError:
            pass  # somebody else answered
        except KitaruError as refused:
            sys.stdout.write(f"{refused}\n[{self._recorded.name}]> ")
            sys.stdout.flush()
        return True
