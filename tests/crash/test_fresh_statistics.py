"""Statistics count what another process completed a moment ago, with a base and without, while bases are built."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.children import ForkServer
from tests.crash.tiers import tiers


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("limits", "bases"), [({}, 0), ({"small": 0, "few": 20, "part": 10**9, "gain": 1}, 1)], ids=["tail", "base"]
)
@tiers("rounds", 500, 10_000)
def test_what_another_process_completed_a_moment_ago_is_counted(
    rounds: int, limits: dict[str, int], bases: int, forkserver: ForkServer, folder: Path
) -> None:
    programs = [
        ("sharing:complete_in_turn", {"rounds": rounds}),
        ("sharing:count_in_turn", {"rounds": rounds, "limits": limits}),
    ]
    writer, asker = forkserver.start_each(folder, programs, {"KITARU_DURABILITY": "os"})
    (said,) = asker.finish(300)
    writer.finish()
    assert said == {"wrong": [], "bases": bases}
