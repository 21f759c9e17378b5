"""What is folded here from events' bodies is what kitaru.projections.detail folds from the events themselves."""

from __future__ import annotations

import json
from itertools import pairwise

from hypothesis import given, settings

from kitaru.analytics.folding import TYPES, Step, fold
from kitaru.domain import events as e
from kitaru.projections.detail import Detail
from kitaru.store.registry import body_of, codec_of
from tests.projections.streams import SOME_STREAMS, Stream, forgotten

VALUES = {"MetadataLogged": "values", "LLMUsageRecorded": "record"}


def steps(number: int, stream: Stream) -> list[Step]:
    """Events as they come out of a store."""
    found: list[Step] = []
    for version, event in enumerate(stream, 1):
        kind = type(event).__name__
        if kind in TYPES:
            payload = getattr(event, VALUES[kind]) if kind in VALUES else None
            value = None if payload is None or payload.data is None else json.loads(payload.data)
            found.append(Step(number, version, kind, json.loads(body_of(event, codec_of(event))), value))
    return found


def detail(stream: Stream) -> Detail:
    return Detail(lambda payload: payload.data).add_all(stream)


def text(tree: object) -> str | None:
    return json.dumps(tree, separators=(",", ":"), ensure_ascii=False) if tree else None


@settings(max_examples=400, deadline=None)
@given(SOME_STREAMS)
def test_calls_attempts_and_waits_are_what_get_shows(streams: dict[int, Stream]) -> None:
    streams = {number: forgotten(stream) for number, stream in streams.items()}
    folded = fold(step for number, stream in streams.items() for step in steps(number, stream))
    calls, attempts, waits = [], [], []
    for number, stream in streams.items():
        shown = detail(stream)
        for call in shown.calls.values():
            failure = call.failure
            calls.append(
                (
                    number, call.call, call.invocation_id, call.name, call.checkpoint_type, call.status, call.started_at,
                    call.ended_at, len(call.attempts), call.original_call_id, text(call.parents),
                    failure and failure.exception_type, failure and failure.origin.value, text(call.metadata),
                    0, None, None, None, None,
                )
            )  # fmt: skip
            for attempt in call.attempts:
                raised = attempt.failure
                attempts.append(
                    (
                        number, call.call, attempt.number, attempt.status, attempt.started_at, attempt.ended_at,
                        raised and raised.exception_type, raised and raised.origin.value,
                        raised.retry_after if isinstance(raised, e.AttemptFailed) else None, text(attempt.metadata),
                    )
                )  # fmt: skip
        for wait in shown.waits.values():
            opened = wait.opened
            named = (opened.kind, opened.invocation_id, opened.name, opened.at, opened.expires_at)
            waits.append((number, opened.wait, *named, wait.outcome, wait.closed_at, wait.by))
    assert folded.calls == calls
    assert folded.attempts == attempts
    assert folded.waits == waits


@settings(max_examples=100, deadline=None)
@given(SOME_STREAMS)
def test_executions_are_folded_one_by_one(streams: dict[int, Stream]) -> None:
    together = fold(step for number, stream in streams.items() for step in steps(number, stream))
    apart = [fold(steps(number, stream)) for number, stream in streams.items()]
    assert together.calls == [row for each in apart for row in each.calls]
    assert together.waits == [row for each in apart for row in each.waits]


def test_the_steps_of_a_stream_are_in_the_order_of_their_versions() -> None:
    stream = [e.RunnerClaimed(at=1, epoch=1, runner="r"), e.ExecutionCancelled(at=2)]
    assert all(before.version < after.version for before, after in pairwise(steps(1, stream)))
