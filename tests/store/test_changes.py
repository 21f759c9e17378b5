"""How threads learn of commits: whoever sees one first tells all that wait."""

from __future__ import annotations

import threading
import time

import pytest

from kitaru.store import changes
from kitaru.store.changes import CommitSignal


def test_a_token_that_finds_a_commit_wakes_those_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that polls would find nothing new any more, and the others would sleep through the commit."""
    monkeypatch.setattr(changes, "POLL_SECONDS", 3600.0)
    committed = [0]
    signal = CommitSignal(lambda: committed[0])
    before, woken = signal.token(), threading.Event()

    def wait() -> None:
        signal.wait(before, 60)
        woken.set()

    threading.Thread(target=wait, daemon=True).start()
    deadline = time.monotonic() + 20
    while signal.waiting == 0 and time.monotonic() < deadline:
        time.sleep(0.001)
    committed[0] = 1
    assert signal.token() != before
    assert woken.wait(20)
