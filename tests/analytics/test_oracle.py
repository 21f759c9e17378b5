"""R19: any question to any store has the oracle's answer, in memory and on SQLite, while the store changes.

1,000 questions in `make test`, 20,000 in `make crash`; every failure names the seed and the question that reproduce it.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest

from kitaru import compose
from kitaru.analytics.answers import Answer, make_answer
from kitaru.analytics.bases import LIMITS, Limits
from kitaru.analytics.engine import answer
from kitaru.analytics.grammar import DIMENSIONS, SOURCES, STATUSES_OF, Selection, make_query
from kitaru.client import KitaruClient
from kitaru.settings import StoreChoice
from kitaru.store.log import Reads
from kitaru.testing import memory_log
from tests.analytics import oracle, stories
from tests.analytics.conftest import ALWAYS_NEW, BASED
from tests.analytics.oracle import Question, Record
from tests.crash.tiers import tiers

SUBJECTS = ("executions", "checkpoints", "llm_usage")
BATCH, ROUNDS = 100, 5
"""Questions to one store, between which it changes so often."""
SEED = int(os.environ.get("KITARU_SEED", "20260301"))


class Asked(NamedTuple):
    """A store as it is asked."""

    reads: Reads
    folder: str | None
    limits: Limits = LIMITS


def asked(question: Question, store: Asked) -> Answer:
    """What statistics say."""
    selection: Selection = {
        "flow": question["flow"], "status": question["status"] or None, "stack": question["stack"], "tags": question["tags"],
        "since": moment(question["since"]), "until": moment(question["until"]), "where": question["where"],
    }  # fmt: skip
    query = make_query(
        question["subject"], question["project"], 0, selection,
        group_by=question["group_by"], metrics=question["metrics"], timezone=question["timezone"],
        max_groups=question["max_groups"],
    )  # fmt: skip
    return make_answer(query, answer(store.reads, store.folder, query, limits=store.limits))


def moment(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)


def check(question: Question, records: list[Record], found: Answer) -> None:
    """The answer is the oracle's: counts, keys and their kinds, and the order exactly; floats to nine digits."""
    wanted, is_truncated = oracle.answer(records, question)
    shown = [(list(group.keys.values()), group.counted) for group in found.groups]
    assert kinds(shown) == kinds([(keys, count) for keys, count, _ in wanted])
    assert found.truncated == is_truncated
    for group, (keys, _, metrics) in zip(found.groups, wanted, strict=True):
        assert list(group.keys) == oracle.names(question)
        assert list(group.metrics) == [spec.partition(":")[0] for spec in question["metrics"]]
        for value, number in zip(group.metrics.values(), metrics, strict=True):
            is_right = value is None if number is None else number.agrees(value)
            assert is_right, f"{value!r} instead of {number!r} under {keys!r}"


def kinds(groups: list[tuple[list[Any], int]]) -> list[tuple[Any, ...]]:
    return [(tuple(map(oracle.kinded, keys)), count) for keys, count in groups]


def campaign(seed: int, store: Asked, rng: Random, population: stories.Population) -> None:
    for number in range(BATCH):
        if number % (BATCH // ROUNDS) == 0:
            population.go_on(starts=rng.randrange(5, 25), steps=rng.randrange(120))
        question = stories.question(rng, population.records, SUBJECTS)
        try:
            check(question, population.records, asked(question, store))
        except Exception as error:
            error.add_note(f"KITARU_SEED={seed}, question {number}: {question!r}")
            raise


@tiers("questions", 400, 5_000)
def test_any_question_to_a_store_in_memory_has_the_oracles_answer(questions: int) -> None:
    for place in range(questions // BATCH):
        rng = Random(seed := SEED + place)
        log = memory_log(compose.projectors())
        campaign(seed, Asked(log, None), rng, stories.Population(rng, log))
        log.close()


@pytest.mark.parametrize(("limits", "offset"), [(LIMITS, 1), (BASED, 2), (ALWAYS_NEW, 3)], ids=["rows", "base", "bases"])
@tiers("questions", 200, 5_000)
def test_any_question_to_a_store_on_disk_has_the_oracles_answer(
    questions: int, tmp_path: Path, limits: Limits, offset: int
) -> None:
    for place in range(questions // BATCH):
        rng = Random(seed := SEED + offset * 1_000_000 + place)
        choice = StoreChoice(str(tmp_path / str(place)), "of the test")
        log = compose.open_log(choice)
        with KitaruClient(choice.location) as client:
            store = Asked(client._access.reader("store"), choice.location, limits)
            campaign(seed, store, rng, stories.Population(rng, log))
        compose.close_log(choice)


@pytest.mark.parametrize("seed", range(8))
def test_what_the_oracle_is_told_is_what_get_and_list_show(tmp_path: Path, seed: int) -> None:
    rng = Random(seed)
    choice = StoreChoice(str(tmp_path / "store"), "of the test")
    population = stories.Population(rng, compose.open_log(choice))
    population.go_on(30, 300)
    with KitaruClient(choice.location) as client:
        listed = {each.exec_id: each for project in ("default", "other") for each in listing(choice, project)}
        alive = [story for story in population.stories if not story.is_deleted]
        assert sorted(listed) == sorted(story.exec_id for story in alive)
        for story in alive:
            record, got, row = story.record, client.executions.get(story.exec_id), listed[story.exec_id]
            for shown in (got, row):
                assert (shown.status, shown.flow_id, shown.stack_name) == (
                    record["status"],
                    record["flow_id"],
                    record["stack"],
                )
                assert list(shown.tags) == list(record["tags"])
                assert shown.duration == (None if record["ended"] is None else (record["ended"] - record["started"]) / 1e6)
                assert (shown.checkpoint_count, shown.artifact_count) == (len(record["calls"]), record["artifacts"])
                scalars = {key: value for key, value in record["metadata"].items() if oracle.scalar(value) is not None}
                assert {key: shown.metadata[key] for key in scalars} == scalars
            calls = [(call["name"], call["type"], call["status"], call["attempts"]) for call in record["calls"]]
            assert [(c.name, c.checkpoint_type, c.status, len(c.attempts)) for c in got.checkpoints or ()] == calls
            ends = [None if call["ended"] is None else moment(call["ended"]) for call in record["calls"]]
            assert [(c.ended_at) for c in got.checkpoints or ()] == ends


def listing(choice: StoreChoice, project: str) -> list[Any]:
    with KitaruClient(choice.location, project=project) as client:
        return client.executions.list()


def test_the_questions_are_over_the_whole_grammar() -> None:
    for subject, dimensions in DIMENSIONS.items():
        assert set(stories.DIMENSIONS[subject]) == set(dimensions)
        assert set(stories.SOURCES[subject]) == set(SOURCES[subject])
        assert set(stories.STATUSES[subject]) == set(STATUSES_OF[subject])
