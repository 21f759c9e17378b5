"""R16: every command and every reported event type in every status; and any flipped cell of the table is caught."""

from __future__ import annotations

import importlib.util
from types import ModuleType
from typing import get_args

import pytest

from kitaru.domain import commands as c
from kitaru.domain import decide as decide_module
from kitaru.domain.decide import decide
from kitaru.domain.state import ExecutionStatus
from kitaru.domain.transitions import TRANSITIONS
from tests.domain.samples import EVENT_TYPES
from tests.domain.table import ALLOWED, ROWS, STATUSES, objection, objections


@pytest.fixture(scope="module")
def mutant() -> ModuleType:
    """A second copy of the decide module, with a table of its own to spoil."""
    assert decide_module.__file__ is not None
    spec = importlib.util.spec_from_file_location("decide_to_spoil", decide_module.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_has_a_row_for_every_command_and_event_type() -> None:
    commands = {command.__name__ for command in get_args(c.Command)} - {"Report"}
    assert set(ROWS) == set(ALLOWED) == commands | {event_type.__name__ for event_type in EVENT_TYPES}


def test_the_table_has_a_column_for_every_status() -> None:
    assert set(STATUSES.values()) == {None, *ExecutionStatus}


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("row", ROWS)
def test_is_allowed_or_refused_as_the_table_says(row: str, status: str) -> None:
    assert objection(decide, row, status) is None


def test_an_unspoiled_copy_passes(mutant: ModuleType) -> None:
    mutant.TRANSITIONS = TRANSITIONS
    assert objections(mutant.decide) == []


@pytest.mark.parametrize("row", ROWS)
def test_flipping_any_one_cell_is_caught_in_that_cell(mutant: ModuleType, row: str) -> None:
    for name, status in STATUSES.items():
        mutant.TRANSITIONS = TRANSITIONS | {row: TRANSITIONS.get(row, frozenset()) ^ {status}}
        assert objections(mutant.decide) == [(row, name)]


@pytest.mark.parametrize("row", sorted(TRANSITIONS))
def test_emptying_any_one_row_is_caught(mutant: ModuleType, row: str) -> None:
    mutant.TRANSITIONS = TRANSITIONS | {row: frozenset()}
    assert {found for found, _ in objections(mutant.decide)} == {row}
