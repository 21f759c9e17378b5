"""R19 through a store's life: saved, restored over what came later, rebuilt, its bases lost or taken along.

What is kept in this process, and what stands in the store's folder, may be of a history that is no more.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from random import Random

import pytest

from kitaru import compose
from kitaru.analytics import generations
from kitaru.analytics.bases import LIMITS, Limits
from kitaru.analytics.engine import close_statistics
from kitaru.client import KitaruClient
from kitaru.settings import StoreChoice
from tests.analytics import stories
from tests.analytics.conftest import ALWAYS_NEW, BASED
from tests.analytics.stories import Population, Story
from tests.analytics.test_oracle import SUBJECTS, Asked, asked, check
from tests.crash.tiers import tiers

SEED = int(os.environ.get("KITARU_SEED", "20260301"))
EAGER = Limits(small=0, few=0, part=10**9, gain=1, far_behind=30, apart=False)
"""What lags is read as a tail, or built anew when that is much."""
DEEDS = ("go on", "save", "restore", "restore", "rebuild", "ask", "close", "lose bases")
TURNS = 25


class Life:
    """A store, what is known of it, and the copies of it that were made."""

    def __init__(self, folder: Path, rng: Random) -> None:
        self._rng, self._folder = rng, folder
        self.choice = StoreChoice(str(folder / "store"), "of the test")
        self.population = Population(rng, compose.open_log(self.choice))
        self.population.go_on(12, 100)
        self._copies: list[tuple[Path, list[Story]]] = []

    def do(self, deed: str) -> None:
        """Make something of DEEDS happen."""
        match deed:
            case "go on":
                self.population.go_on(self._rng.randrange(4), self._rng.randrange(60))
            case "close":
                close_statistics()
            case "lose bases":
                shutil.rmtree(self._folder / "store" / generations.FOLDER, ignore_errors=True)
            case "save" | "restore" | "rebuild":
                self._work_on_files(deed)
            case _:
                pass

    def _work_on_files(self, deed: str) -> None:
        compose.close_log(self.choice)
        known = self.population.stories
        if deed == "rebuild":
            compose.rebuild_store(self.choice)
        elif deed == "save":
            path = self._folder / f"copy-{len(self._copies)}"
            shutil.copytree(self._folder / "store", path)
            self._copies.append((path, [story.copied(story._log) for story in known]))
        elif self._copies:
            path, known = self._rng.choice(self._copies)
            self._restore(path)
        self.population.live_in(compose.open_log(self.choice), known)
        if deed == "restore":  # to where the history before was, and beyond
            self.population.go_on(self._rng.randrange(4), self._rng.randrange(150))

    def _restore(self, path: Path) -> None:
        """With the bases that the copy has, or over those that are there."""
        store, bases = self._folder / "store", self._folder / "bases"
        keeps = self._rng.random() < 0.5 and (store / generations.FOLDER).exists()
        if keeps:
            (store / generations.FOLDER).rename(bases)
        shutil.rmtree(store)
        shutil.copytree(path, store, ignore=shutil.ignore_patterns(*([generations.FOLDER] if keeps else [])))
        if keeps:
            bases.rename(store / generations.FOLDER)


@pytest.mark.parametrize("limits", [LIMITS, BASED, ALWAYS_NEW, EAGER], ids=["rows", "base", "bases", "eager"])
@tiers("lives", 1, 25)
def test_whatever_becomes_of_a_store_its_answers_are_the_oracles(
    lives: int, limits: Limits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KITARU_DURABILITY", "os")
    for place in range(lives):
        rng = Random(seed := SEED + place)
        folder = tmp_path / str(place)
        folder.mkdir()
        life, done = Life(folder, rng), list[str]()
        for _ in range(TURNS):
            done.append(rng.choice(DEEDS))
            life.do(done[-1])
            with KitaruClient(life.choice.location) as client:
                store = Asked(client._access.reader("store"), life.choice.location, limits)
                for _ in range(rng.randrange(1, 4)):
                    question = stories.question(rng, life.population.records, SUBJECTS)
                    try:
                        check(question, life.population.records, asked(question, store))
                    except Exception as error:
                        error.add_note(f"KITARU_SEED={seed}, after {done}: {question!r}")
                        raise
        compose.close_log(life.choice)
        close_statistics()
