"""Metadata keys that a base has no column for."""

from __future__ import annotations

import os

from kitaru.analytics import engine
from kitaru.compose import open_log
from kitaru.settings import StoreChoice
from kitaru.testing.events import append, call
from tests.analytics.conftest import BASED
from tests.analytics.counting import Place, counts
from tests.analytics.filling import log_metadata, run


def test_values_that_were_read_for_a_base_are_not_there_twice_once_their_executions_change(folder: str) -> None:
    place = Place(open_log(StoreChoice(folder, "of the test")), folder, BASED)
    heads = [append(place.log, run(place.log, seconds=None, metadata={"k": number}), *call(1)) for number in range(3)]
    assert counts(place, "metadata:k", subject="checkpoints") == {0: 1, 1: 1, 2: 1}
    log_metadata(place.log, heads[1], other=1)
    assert counts(place, "metadata:k", subject="checkpoints") == {0: 1, 1: 1, 2: 1}
    assert counts(place, "metadata:k") == {0: 1, 1: 1, 2: 1}


def test_the_base_that_a_question_waited_for_answers_it(folder: str) -> None:
    place = Place(open_log(StoreChoice(folder, "of the test")), folder, BASED)
    run(place.log, metadata={"k": 1})
    assert counts(place, "metadata:k") == {1: 1}
    (statistics,) = [each for (where, *_), each in engine._open.items() if where == os.path.realpath(folder)]
    assert statistics._current is not None
    assert set(statistics._current.bases) >= {"executions"}
    assert statistics._current.tail_size("executions") == 0
