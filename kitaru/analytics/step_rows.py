"""The columnar rows of what happened inside executions: checkpoint calls and LLM usage records, folded from events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

from kitaru.analytics.connection import Duck
from kitaru.analytics.folding import TYPES, Row, Step, fold
from kitaru.domain.errors import KitaruBackendError
from kitaru.store.log import Reads
from kitaru.store.values.text import read, write

CREATE = (
    """CREATE TABLE calls (
        number INTEGER NOT NULL,
        project VARCHAR NOT NULL,
        flow_id VARCHAR NOT NULL,
        stack VARCHAR NOT NULL,
        name VARCHAR NOT NULL,
        checkpoint_type VARCHAR,
        status VARCHAR NOT NULL,
        started_at BIGINT NOT NULL,
        quarter INTEGER NOT NULL,
        duration BIGINT,
        attempt_count INTEGER NOT NULL,
        llm_cost BIGINT,
        llm_tokens BIGINT,
        llm_input_tokens BIGINT,
        llm_output_tokens BIGINT
    )""",
    """CREATE TABLE usage (
        number INTEGER NOT NULL,
        project VARCHAR NOT NULL,
        flow_id VARCHAR NOT NULL,
        stack VARCHAR NOT NULL,
        name VARCHAR,
        started_at BIGINT NOT NULL,
        quarter INTEGER NOT NULL,
        cost BIGINT,
        total_tokens BIGINT,
        input_tokens BIGINT,
        output_tokens BIGINT,
        cached_input_tokens BIGINT,
        reasoning_tokens BIGINT,
        actual_cost BIGINT,
        estimated_cost BIGINT,
        latency BIGINT,
        adapter VARCHAR NOT NULL,
        provider VARCHAR,
        model VARCHAR,
        status VARCHAR NOT NULL,
        billing_effect VARCHAR NOT NULL
    )""",
)
"""Costs are whole numbers of 10^-10 USD, times microseconds. A usage record's `started_at` is when it was recorded, `name`
its checkpoint's; `cost` is what it added.
"""

CREATE_LANDING = """CREATE TEMP TABLE owners (
        number INTEGER NOT NULL, project VARCHAR NOT NULL, flow_id VARCHAR NOT NULL, stack VARCHAR NOT NULL
    )"""
CLEAR = (
    "DELETE FROM calls WHERE number IN (SELECT unnest(from_json(?, '[\"INTEGER\"]')))",
    "DELETE FROM usage WHERE number IN (SELECT unnest(from_json(?, '[\"INTEGER\"]')))",
)

_READ_EVENTS = """SELECT number, type, body FROM events
    WHERE number IN (SELECT value FROM json_each(?)) AND type IN ('AttemptStarted', 'AttemptFailed', 'CheckpointCompleted',
        'CheckpointFailed', 'CheckpointReused', 'LLMUsageRecorded', 'RunnerClaimed', 'ExecutionCompleted',
        'ExecutionFailed', 'ExecutionCancelled')
    ORDER BY number, version"""
_READ_OWNERS = """SELECT json_group_array(number), json_group_array(project), json_group_array(flow_id),
    json_group_array(stack) FROM executions WHERE number IN (SELECT value FROM json_each(?))"""

_LEAVE_OWNERS = "DELETE FROM owners"
_ADD_OWNERS = """INSERT INTO owners
    SELECT unnest(from_json(?, '["INTEGER"]')), unnest(from_json(?, '["VARCHAR"]')),
        unnest(from_json(?, '["VARCHAR"]')), unnest(from_json(?, '["VARCHAR"]'))"""
_ADD_CALLS = """INSERT INTO calls
    SELECT number, project, flow_id, stack, name, checkpoint_type, status, started_at,
        (least(greatest(started_at, -62135596800000000), 253402300799999999) + 62135596800000000) // 900000000,
        ended_at - started_at, attempt_count, llm_cost, llm_tokens, llm_input_tokens, llm_output_tokens
    FROM (SELECT unnest(from_json(?, '["INTEGER"]')) AS number, unnest(from_json(?, '["INTEGER"]')) AS call,
        unnest(from_json(?, '["VARCHAR"]')) AS name, unnest(from_json(?, '["VARCHAR"]')) AS checkpoint_type,
        unnest(from_json(?, '["VARCHAR"]')) AS status, unnest(from_json(?, '["BIGINT"]')) AS started_at,
        unnest(from_json(?, '["BIGINT"]')) AS ended_at, unnest(from_json(?, '["INTEGER"]')) AS attempt_count,
        unnest(from_json(?, '["BIGINT"]')) AS llm_cost, unnest(from_json(?, '["BIGINT"]')) AS llm_tokens,
        unnest(from_json(?, '["BIGINT"]')) AS llm_input_tokens, unnest(from_json(?, '["BIGINT"]')) AS llm_output_tokens)
        JOIN owners USING (number)"""
_ADD_USAGE = """INSERT INTO usage
    SELECT number, project, flow_id, stack, name, started_at,
        (least(greatest(started_at, -62135596800000000), 253402300799999999) + 62135596800000000) // 900000000,
        cost, total_tokens, input_tokens, output_tokens, cached_input_tokens, reasoning_tokens, actual_cost,
        estimated_cost, latency, adapter, provider, model, status, billing_effect
    FROM (SELECT unnest(from_json(?, '["INTEGER"]')) AS number, unnest(from_json(?, '["INTEGER"]')) AS call,
        unnest(from_json(?, '["BIGINT"]')) AS started_at, unnest(from_json(?, '["VARCHAR"]')) AS name,
        unnest(from_json(?, '["BIGINT"]')) AS cost, unnest(from_json(?, '["BIGINT"]')) AS total_tokens,
        unnest(from_json(?, '["BIGINT"]')) AS input_tokens, unnest(from_json(?, '["BIGINT"]')) AS output_tokens,
        unnest(from_json(?, '["BIGINT"]')) AS cached_input_tokens, unnest(from_json(?, '["BIGINT"]')) AS reasoning_tokens,
        unnest(from_json(?, '["BIGINT"]')) AS actual_cost, unnest(from_json(?, '["BIGINT"]')) AS estimated_cost,
        unnest(from_json(?, '["BIGINT"]')) AS latency, unnest(from_json(?, '["VARCHAR"]')) AS adapter,
        unnest(from_json(?, '["VARCHAR"]')) AS provider, unnest(from_json(?, '["VARCHAR"]')) AS model,
        unnest(from_json(?, '["VARCHAR"]')) AS status, unnest(from_json(?, '["VARCHAR"]')) AS billing_effect)
        JOIN owners USING (number)"""

_TAIL = 1000


def add(moment: Reads, duck: Duck, numbers: str, *, has_events: bool) -> None:
    """Fold the events of some executions, a JSON array of their numbers, and add their rows.

    `has_events`: the store has a table of its events. Raises KitaruBackendError for events that say nothing sensible.
    """
    duck.execute(_LEAVE_OWNERS)
    duck.execute(_ADD_OWNERS, moment.query(_READ_OWNERS, (numbers,))[0])
    try:
        calls, usage = fold(_steps(moment, numbers) if has_events else _steps_of_all(moment))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise KitaruBackendError(
            f"an event of the store {moment.location} says nothing sensible ({type(error).__name__}: {error}); "
            "run `kitaru store verify`, and restore a backup",
            code="store-corrupt",
        ) from error
    if calls:
        duck.execute(_ADD_CALLS, _columns(calls))
    if usage:
        duck.execute(_ADD_USAGE, _columns(usage))


def _columns(rows: Sequence[Row]) -> list[str]:
    return [write(column).decode() for column in zip(*rows, strict=True)]


def _steps(moment: Reads, numbers: str) -> Iterator[Step]:
    for number, name, body in cast("list[tuple[int, str, bytes]]", moment.query(_READ_EVENTS, (numbers,))):
        yield number, name, read(body)


def _steps_of_all(moment: Reads) -> list[Step]:
    """The same of a store that has no tables of events: all of them are read."""
    found: list[tuple[int, int, Step]] = []
    after = 0
    while page := moment.tail(after=after, limit=_TAIL):
        after = page[-1].position
        for each in page:
            name = type(each.event).__name__
            if name in TYPES:
                body = read(each.event.model_dump_json().encode())
                found.append((each.number, each.version, (each.number, name, body)))
    found.sort(key=lambda step: step[:2])
    return [step for _, _, step in found]
