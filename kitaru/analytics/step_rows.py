"""The columnar rows of what happened inside executions: calls, attempts, waits, usage records, folded from events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

from kitaru.analytics.connection import Duck
from kitaru.analytics.folding import TYPES, Step, fold
from kitaru.domain.errors import KitaruBackendError, KitaruNotFoundError
from kitaru.domain.payload import Payload
from kitaru.store.log import Reads
from kitaru.store.values import to_plain
from kitaru.store.values.text import read, write

CREATE = (
    """CREATE TABLE calls (
        number INTEGER NOT NULL,
        call INTEGER NOT NULL,
        project VARCHAR NOT NULL,
        flow_id VARCHAR NOT NULL,
        stack VARCHAR NOT NULL,
        invocation_id VARCHAR NOT NULL,
        name VARCHAR NOT NULL,
        checkpoint_type VARCHAR,
        status VARCHAR NOT NULL,
        started_at BIGINT NOT NULL,
        quarter INTEGER NOT NULL,
        duration BIGINT,
        attempt_count INTEGER NOT NULL,
        original_call_id VARCHAR,
        parents VARCHAR,
        failure_type VARCHAR,
        failure_origin VARCHAR,
        metadata VARCHAR,
        usage_count INTEGER NOT NULL,
        llm_cost BIGINT,
        llm_tokens BIGINT,
        llm_input_tokens BIGINT,
        llm_output_tokens BIGINT
    )""",
    """CREATE TABLE attempts (
        number INTEGER NOT NULL,
        call INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        status VARCHAR NOT NULL,
        started_at BIGINT NOT NULL,
        ended_at BIGINT,
        failure_type VARCHAR,
        failure_origin VARCHAR,
        retry_after DOUBLE,
        metadata VARCHAR
    )""",
    """CREATE TABLE waits (
        number INTEGER NOT NULL,
        wait INTEGER NOT NULL,
        kind VARCHAR NOT NULL,
        invocation_id VARCHAR NOT NULL,
        name VARCHAR NOT NULL,
        opened_at BIGINT NOT NULL,
        expires_at BIGINT,
        outcome VARCHAR,
        closed_at BIGINT,
        answered_by VARCHAR
    )""",
    """CREATE TABLE usage (
        number INTEGER NOT NULL,
        call INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        project VARCHAR NOT NULL,
        flow_id VARCHAR NOT NULL,
        stack VARCHAR NOT NULL,
        started_at BIGINT NOT NULL,
        quarter INTEGER NOT NULL,
        name VARCHAR,
        record_id VARCHAR NOT NULL,
        event_id VARCHAR,
        adapter VARCHAR NOT NULL,
        provider VARCHAR,
        model VARCHAR,
        status VARCHAR NOT NULL,
        billing_effect VARCHAR NOT NULL,
        cost BIGINT,
        total_tokens BIGINT,
        input_tokens BIGINT,
        output_tokens BIGINT,
        cached_input_tokens BIGINT,
        reasoning_tokens BIGINT,
        actual_cost BIGINT,
        estimated_cost BIGINT,
        latency BIGINT,
        surface VARCHAR,
        call_name VARCHAR,
        requested_model VARCHAR,
        resolved_model VARCHAR,
        cache_status VARCHAR,
        currency VARCHAR,
        cost_source VARCHAR,
        source_label VARCHAR,
        pricing_version VARCHAR,
        warnings VARCHAR,
        raw_usage VARCHAR
    )""",
)
"""Costs are whole numbers of 10^-10 USD, times microseconds. A usage record's `started_at` is when it was recorded, `name`
its checkpoint's; `cost` is what it added.
"""

CREATE_LANDING = (
    """CREATE TEMP TABLE owners (
        number INTEGER NOT NULL, project VARCHAR NOT NULL, flow_id VARCHAR NOT NULL, stack VARCHAR NOT NULL
    )""",
)
CLEAR = (
    "DELETE FROM calls WHERE number IN (SELECT unnest(from_json(?, '[\"INTEGER\"]')))",
    "DELETE FROM attempts WHERE number IN (SELECT unnest(from_json(?, '[\"INTEGER\"]')))",
    "DELETE FROM waits WHERE number IN (SELECT unnest(from_json(?, '[\"INTEGER\"]')))",
    "DELETE FROM usage WHERE number IN (SELECT unnest(from_json(?, '[\"INTEGER\"]')))",
)

_READ_EVENTS = """SELECT number, version, type, body,
    CASE WHEN type IN ('MetadataLogged', 'LLMUsageRecorded') THEN payload END
    FROM events WHERE number IN (SELECT value FROM json_each(?)) AND type IN (SELECT value FROM json_each(?))
    ORDER BY number, version"""
_READ_OWNERS = """SELECT json_group_array(number), json_group_array(project), json_group_array(flow_id),
    json_group_array(stack) FROM executions WHERE number IN (SELECT value FROM json_each(?))"""

_LEAVE_OWNERS = "DELETE FROM owners"
_ADD_OWNERS = """INSERT INTO owners
    SELECT unnest(from_json(?, '["INTEGER"]')), unnest(from_json(?, '["VARCHAR"]')),
        unnest(from_json(?, '["VARCHAR"]')), unnest(from_json(?, '["VARCHAR"]'))"""
_ADD_CALLS = """INSERT INTO calls
    SELECT number, call, project, flow_id, stack, invocation_id, name, checkpoint_type, status, started_at,
        (least(greatest(started_at, -62135596800000000), 253402300799999999) + 62135596800000000) // 900000000,
        ended_at - started_at, attempt_count, original_call_id, parents, failure_type, failure_origin, metadata,
        usage_count, llm_cost, llm_tokens, llm_input_tokens, llm_output_tokens
    FROM (SELECT unnest(from_json(?, '["INTEGER"]')) AS number, unnest(from_json(?, '["INTEGER"]')) AS call,
        unnest(from_json(?, '["VARCHAR"]')) AS invocation_id, unnest(from_json(?, '["VARCHAR"]')) AS name,
        unnest(from_json(?, '["VARCHAR"]')) AS checkpoint_type, unnest(from_json(?, '["VARCHAR"]')) AS status,
        unnest(from_json(?, '["BIGINT"]')) AS started_at, unnest(from_json(?, '["BIGINT"]')) AS ended_at,
        unnest(from_json(?, '["INTEGER"]')) AS attempt_count, unnest(from_json(?, '["VARCHAR"]')) AS original_call_id,
        unnest(from_json(?, '["VARCHAR"]')) AS parents, unnest(from_json(?, '["VARCHAR"]')) AS failure_type,
        unnest(from_json(?, '["VARCHAR"]')) AS failure_origin, unnest(from_json(?, '["VARCHAR"]')) AS metadata,
        unnest(from_json(?, '["INTEGER"]')) AS usage_count, unnest(from_json(?, '["BIGINT"]')) AS llm_cost,
        unnest(from_json(?, '["BIGINT"]')) AS llm_tokens, unnest(from_json(?, '["BIGINT"]')) AS llm_input_tokens,
        unnest(from_json(?, '["BIGINT"]')) AS llm_output_tokens) JOIN owners USING (number)"""
_ADD_ATTEMPTS = """INSERT INTO attempts
    SELECT unnest(from_json(?, '["INTEGER"]')), unnest(from_json(?, '["INTEGER"]')), unnest(from_json(?, '["INTEGER"]')),
        unnest(from_json(?, '["VARCHAR"]')), unnest(from_json(?, '["BIGINT"]')), unnest(from_json(?, '["BIGINT"]')),
        unnest(from_json(?, '["VARCHAR"]')), unnest(from_json(?, '["VARCHAR"]')), unnest(from_json(?, '["DOUBLE"]')),
        unnest(from_json(?, '["VARCHAR"]'))"""
_ADD_WAITS = """INSERT INTO waits
    SELECT unnest(from_json(?, '["INTEGER"]')), unnest(from_json(?, '["INTEGER"]')), unnest(from_json(?, '["VARCHAR"]')),
        unnest(from_json(?, '["VARCHAR"]')), unnest(from_json(?, '["VARCHAR"]')), unnest(from_json(?, '["BIGINT"]')),
        unnest(from_json(?, '["BIGINT"]')), unnest(from_json(?, '["VARCHAR"]')), unnest(from_json(?, '["BIGINT"]')),
        unnest(from_json(?, '["VARCHAR"]'))"""
_ADD_USAGE = """INSERT INTO usage
    SELECT number, call, attempt, project, flow_id, stack, started_at,
        (least(greatest(started_at, -62135596800000000), 253402300799999999) + 62135596800000000) // 900000000,
        name, record_id, event_id, adapter, provider, model, status, billing_effect, cost, total_tokens, input_tokens,
        output_tokens, cached_input_tokens, reasoning_tokens, actual_cost, estimated_cost, latency, surface, call_name,
        requested_model, resolved_model, cache_status, currency, cost_source, source_label, pricing_version, warnings,
        raw_usage
    FROM (SELECT unnest(from_json(?, '["INTEGER"]')) AS number, unnest(from_json(?, '["INTEGER"]')) AS call,
        unnest(from_json(?, '["INTEGER"]')) AS attempt, unnest(from_json(?, '["BIGINT"]')) AS started_at,
        unnest(from_json(?, '["VARCHAR"]')) AS name, unnest(from_json(?, '["VARCHAR"]')) AS record_id,
        unnest(from_json(?, '["VARCHAR"]')) AS event_id, unnest(from_json(?, '["VARCHAR"]')) AS adapter,
        unnest(from_json(?, '["VARCHAR"]')) AS provider, unnest(from_json(?, '["VARCHAR"]')) AS model,
        unnest(from_json(?, '["VARCHAR"]')) AS status, unnest(from_json(?, '["VARCHAR"]')) AS billing_effect,
        unnest(from_json(?, '["BIGINT"]')) AS cost, unnest(from_json(?, '["BIGINT"]')) AS total_tokens,
        unnest(from_json(?, '["BIGINT"]')) AS input_tokens, unnest(from_json(?, '["BIGINT"]')) AS output_tokens,
        unnest(from_json(?, '["BIGINT"]')) AS cached_input_tokens, unnest(from_json(?, '["BIGINT"]')) AS reasoning_tokens,
        unnest(from_json(?, '["BIGINT"]')) AS actual_cost, unnest(from_json(?, '["BIGINT"]')) AS estimated_cost,
        unnest(from_json(?, '["BIGINT"]')) AS latency, unnest(from_json(?, '["VARCHAR"]')) AS surface,
        unnest(from_json(?, '["VARCHAR"]')) AS call_name, unnest(from_json(?, '["VARCHAR"]')) AS requested_model,
        unnest(from_json(?, '["VARCHAR"]')) AS resolved_model, unnest(from_json(?, '["VARCHAR"]')) AS cache_status,
        unnest(from_json(?, '["VARCHAR"]')) AS currency, unnest(from_json(?, '["VARCHAR"]')) AS cost_source,
        unnest(from_json(?, '["VARCHAR"]')) AS source_label, unnest(from_json(?, '["VARCHAR"]')) AS pricing_version,
        unnest(from_json(?, '["VARCHAR"]')) AS warnings, unnest(from_json(?, '["VARCHAR"]')) AS raw_usage)
        JOIN owners USING (number)"""

_TYPES = write(TYPES).decode()
_VALUES = {"MetadataLogged": "values", "LLMUsageRecorded": "record"}
_TAIL = 1000


def add(moment: Reads, duck: Duck, numbers: str, *, has_events: bool) -> None:
    """Fold the events of some executions, a JSON array of their numbers, and add their rows.

    `has_events`: the store has a table of its events. Raises KitaruBackendError for events that say nothing sensible.
    """
    duck.execute(_LEAVE_OWNERS)
    duck.execute(_ADD_OWNERS, moment.query(_READ_OWNERS, (numbers,))[0])
    try:
        folded = fold(_steps(moment, numbers) if has_events else _steps_of_all(moment))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise KitaruBackendError(
            f"an event of the store {moment.location} says nothing sensible ({type(error).__name__}: {error}); "
            "run `kitaru store verify`, and restore a backup",
            code="store-corrupt",
        ) from error
    if folded.calls:
        duck.execute(_ADD_CALLS, _columns(folded.calls))
    if folded.attempts:
        duck.execute(_ADD_ATTEMPTS, _columns(folded.attempts))
    if folded.waits:
        duck.execute(_ADD_WAITS, _columns(folded.waits))
    if folded.usage:
        duck.execute(_ADD_USAGE, _columns(folded.usage))


def _columns(rows: Sequence[tuple[object, ...]]) -> list[str]:
    return [write(column).decode() for column in zip(*rows, strict=True)]


def _steps(moment: Reads, numbers: str) -> Iterator[Step]:
    for number, version, name, body, payload in moment.query(_READ_EVENTS, (numbers, _TYPES)):
        parsed: dict[str, Any] = read(cast("bytes", body))
        kind = str(name)
        yield Step(
            cast("int", number),
            cast("int", version),
            kind,
            parsed,
            _value(moment, kind, parsed.get(_VALUES[kind]), cast("bytes | None", payload)) if kind in _VALUES else None,
        )


def _steps_of_all(moment: Reads) -> list[Step]:
    """The same of a store that has no tables of events: all of them are read."""
    found: list[Step] = []
    after = 0
    while page := moment.tail(after=after, limit=_TAIL):
        after = page[-1].position
        for each in page:
            kind = type(each.event).__name__
            if kind in TYPES:
                body: dict[str, Any] = read(each.event.model_dump_json().encode())
                payload = getattr(each.event, _VALUES[kind]) if kind in _VALUES else None
                value = None if payload is None else _value(moment, kind, body[_VALUES[kind]], payload.data)
                found.append(Step(each.number, each.version, kind, body, value))
    return sorted(found, key=lambda step: (step.number, step.version))


def _value(moment: Reads, kind: str, named: dict[str, Any] | None, data: bytes | None) -> object:
    """What a payload says; None when it was erased. Metadata is merged as it is written, records are read as plain JSON."""
    if named is None:
        return None
    if data is None:
        try:
            data = moment.load(Payload(named["digest"], named["size"], named["codec"]))
        except KitaruNotFoundError:
            return None
    return read(data) if kind == "MetadataLogged" else to_plain(data)
