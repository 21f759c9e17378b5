"""A process that writes random stories into a store for as long as it lives."""

from __future__ import annotations

from random import Random

from saying import say

from kitaru.compose import open_log
from kitaru.settings import resolve_store
from tests.analytics.stories import Population


def stories(seed: int, project: str) -> int:
    """Stories in a project of its own, without end."""
    population = Population(Random(seed), open_log(resolve_store()), (project,))
    while True:
        population.go_on(starts=3, steps=30)
        say(executions=len(population.stories))
