"""Statistics count what another process completed a moment ago, with a base and without, while bases are built."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from kitaru.analytics.bases import LIMITS, Limits
from kitaru.analytics.engine import answer, close_statistics
from kitaru.analytics.grammar import make_query
from kitaru.store.read import open_store
from tests.crash.children import ForkServer
from tests.crash.tiers import tiers

EAGER = Limits(small=0, few=20, part=10**9, gain=1)
"""A base from the start, and the next one after twenty changes."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("limits", [LIMITS, EAGER], ids=["tail", "base"])
@tiers("rounds", 1_000, 20_000)
def test_what_another_process_completed_a_moment_ago_is_counted(
    rounds: int, limits: Limits, forkserver: ForkServer, folder: Path
) -> None:
    store = str(folder / "store")
    writer = forkserver.start("sharing:complete_one_after_the_other", folder, {"KITARU_DURABILITY": "os"}, count=rounds)
    writer.await_line()
    query = make_query("executions", "default", 0, {"status": "completed"})
    asked = 0
    with closing(open_store(store)) as reader:
        while (told := writer.said()[-1]["completed"]) < rounds:
            (group,) = answer(reader, store, query, limits=limits)
            assert group.counted >= told
            asked += 1
        (group,) = answer(reader, store, query, limits=limits)
        assert group.counted == rounds
    writer.finish()
    close_statistics()
    assert asked > 1
