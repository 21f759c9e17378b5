"""What is folded here from events' bodies is what kitaru.projections.detail folds from the events themselves."""

from __future__ import annotations

import json

from hypothesis import given, settings

from kitaru.analytics import step_rows
from kitaru.analytics.folding import TYPES, Step, fold
from kitaru.projections.detail import Detail
from kitaru.store.registry import body_of, codec_of
from tests.projections.streams import SOME_STREAMS, Stream


def steps(number: int, stream: Stream) -> list[Step]:
    """Events as they come out of a store."""
    return [
        (number, type(event).__name__, json.loads(body_of(event, codec_of(event))))
        for event in stream
        if type(event).__name__ in TYPES
    ]


@settings(max_examples=400, deadline=None)
@given(SOME_STREAMS)
def test_calls_are_what_get_shows(streams: dict[int, Stream]) -> None:
    folded, _ = fold(step for number, stream in streams.items() for step in steps(number, stream))
    calls: list[tuple[object, ...]] = []
    for number, stream in streams.items():
        shown = Detail(lambda payload: payload.data).add_all(stream)
        for call in shown.calls.values():
            named = (number, call.call, call.name, call.checkpoint_type, call.status)
            calls.append((*named, call.started_at, call.ended_at, len(call.attempts)))
    assert [row[:8] for row in folded] == calls


@settings(max_examples=100, deadline=None)
@given(SOME_STREAMS)
def test_executions_are_folded_one_by_one(streams: dict[int, Stream]) -> None:
    together = fold(step for number, stream in streams.items() for step in steps(number, stream))
    apart = [fold(steps(number, stream)) for number, stream in streams.items()]
    assert together == ([row for calls, _ in apart for row in calls], [row for _, usage in apart for row in usage])


def test_the_statement_reads_the_events_that_are_folded() -> None:
    assert all(f"'{name}'" in step_rows._READ_EVENTS for name in TYPES)
    assert step_rows._READ_EVENTS.count("'") == 2 * len(TYPES)
