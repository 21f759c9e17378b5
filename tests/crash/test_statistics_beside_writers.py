"""R19 while other processes write to the store, and while those that build its bases are killed."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from random import Random

import pytest

from kitaru import compose
from kitaru.analytics import generations
from kitaru.analytics.bases import Limits
from kitaru.client import KitaruClient
from kitaru.settings import StoreChoice
from tests.analytics import stories
from tests.analytics.test_oracle import Asked, asked, check
from tests.crash.children import ForkServer, clean_environment
from tests.crash.tiers import tiers

EAGER = Limits(small=0, few=10**9, gain=1, far_behind=10**9)
"""Every base that is found is used, and none is built by who asks: the test builds."""


@contextmanager
def killed_builders(store: Path, chance: Random) -> Generator[list[int]]:
    """Builders one after the other, most of them killed at a random time; how each ended."""
    ended: list[int] = []
    done = threading.Event()

    def build() -> None:
        place = generations.make_place(str(store))
        while not done.is_set():
            line = [sys.executable, "-P", "-m", "kitaru.analytics.build", str(store), place, *generations.FAMILIES]
            builder = subprocess.Popen(line, env=clean_environment())
            if chance.random() < 0.6:
                done.wait(chance.uniform(0.1, 1.5))
                builder.kill()
            ended.append(builder.wait())

    thread = threading.Thread(target=build)
    thread.start()
    try:
        yield ended
    finally:
        done.set()
        thread.join()


@tiers("questions", 100, 2_000)
def test_any_question_beside_writers_and_killed_builders_has_the_oracles_answer(
    questions: int, seed: int, chance: random.Random, forkserver: ForkServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KITARU_CONFIG_DIR", str(folder / "config"))
    choice = StoreChoice(str(folder / "store"), "of the test")
    population = stories.Population(chance, compose.open_log(choice))
    population.go_on(starts=40, steps=200)
    writers = [forkserver.start("telling:stories", folder, seed=seed + number, project=f"w{number}") for number in range(2)]
    bases: set[str] = set()
    try:
        with KitaruClient(choice.location) as client, killed_builders(folder / "store", Random(seed)) as ended:
            store = Asked(client._access.reader("store"), choice.location, EAGER)
            for number in count():
                if number >= questions and len(bases) > 2:  # on a busy machine builders take longer than so many questions
                    break
                if number % 5 == 0:
                    population.go_on(starts=chance.randrange(3), steps=chance.randrange(20))
                question = stories.question(chance, population.records, ("executions", "checkpoints", "llm_usage"))
                try:
                    check(question, population.records, asked(question, store))
                except Exception as error:
                    error.add_note(f"question {number}: {question!r}")
                    raise
                bases |= {
                    path.name for path in (folder / "store" / generations.FOLDER).iterdir() if path.suffix == ".duckdb"
                }
    finally:
        for writer in writers:
            writer.kill()
        compose.close_log(choice)
    assert all(line["executions"] for writer in writers for line in writer.said())
    assert ended, "no builder was begun"
    if questions > 100:  # few builders need not meet both ends
        assert {0, -9} <= set(ended), "no builder was killed, or none ended well"


@pytest.mark.timeout(300)
@tiers("rounds", 200, 1_000)
def test_what_another_process_completed_a_moment_ago_is_counted(rounds: int, folder: Path) -> None:
    store = str(folder / "store")
    program = Path(__file__).parent / "programs" / "completing.py"
    environment = {**clean_environment(), "KITARU_STORE": store, "KITARU_DURABILITY": "os"}
    writer = subprocess.Popen(
        [sys.executable, str(program)], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdin is not None
    assert writer.stdout is not None
    with writer, KitaruClient(store) as client:
        for number in range(1, rounds + 1):
            writer.stdin.write("\n")
            writer.stdin.flush()
            assert writer.stdout.readline() == f"{number}\n"
            (group,) = client.executions.statistics(group_by="status").groups
            assert (group.keys, group.execution_count) == ({"status": "completed"}, number)
    assert writer.returncode == 0
