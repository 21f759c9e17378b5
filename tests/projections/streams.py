"""Random streams of events that could have happened, as a Hypothesis strategy."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from itertools import count

from hypothesis import strategies as st

from kitaru.domain import events as e
from kitaru.domain.errors import FailureOrigin
from kitaru.domain.payload import Payload
from kitaru.domain.state import ABSENT, ExecutionState, evolve
from kitaru.domain.usage import UsageFigures

Stream = list[e.EventBase]


def payload(value: object) -> Payload:
    return Payload.of(json.dumps(value, separators=(",", ":")).encode(), "k1")


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.floats(-2, 2),
    st.sampled_from(["a", "b", "é", ""]),
    st.just([1]),
    st.dictionaries(st.sampled_from("xy"), st.integers(0, 3), max_size=2),
    st.just({"$": "float", "v": "nan"}),
)
METADATA = st.dictionaries(st.sampled_from(["tier", "cost", "progress"]), VALUES, max_size=3)
TAGS = st.lists(st.sampled_from(["red", "green", "blue"]), max_size=3).map(tuple)
FAILURE = {"origin": FailureOrigin.USER_CODE, "exception_type": "builtins.ValueError"}


def next_event(draw: st.DrawFn, s: ExecutionState, at: int) -> e.EventBase:
    """Any event that may follow in this state."""
    if s.status is None:
        return start(draw, at)
    makers: list[Callable[[], e.EventBase]] = [lambda: e.TagsChanged(at=at, by="me", add=draw(TAGS), remove=draw(TAGS))]
    if s.status.is_finished:
        makers.append(lambda: e.PayloadErased(at=at, by="me", through=s.version))
        if s.status == "failed":
            makers.append(lambda: e.ExecutionRetried(at=at, by="me"))
    else:
        makers += [partial(make, draw, s, at) for make in (*LIFE, *WORK, *WORK)]
        makers += [partial(closed, draw, at, p.wait) for p in s.pending]
        makers += [partial(tried, draw, s, at, call) for call in s.attempts if not s.failed >> call & 1] * 3
        taken = [call for call in range(1, s.calls + 1) if s.reused >> call & 1]
        makers += [partial(used, draw, at, call, 2, "reused_not_incurred") for call in taken]
    return draw(st.sampled_from(makers))()


def start(draw: st.DrawFn, at: int) -> e.EventBase:
    flow = draw(st.sampled_from("fg"))
    return e.ExecutionStarted(
        at=at, flow_id=f"id-{flow}", flow_name=flow, project="default", stack="local", tags=draw(TAGS),
        metadata=draw(st.none() | METADATA.map(payload)), inputs=payload({}), target=e.Target(file="/f.py", qualname="f"),
        options=e.FlowOptions(retries=1),
    )  # fmt: skip


def opened(_: st.DrawFn, s: ExecutionState, at: int) -> e.EventBase:
    return e.AttemptStarted(at=at, call=s.calls + 1, attempt=1, invocation_id="c", name="c", input_digest="00")


def reused(_: st.DrawFn, s: ExecutionState, at: int) -> e.EventBase:
    return e.CheckpointReused(
        at=at, call=s.calls + 1, invocation_id="c", name="c", input_digest="00", output=payload(2), original_call_id="o.c1"
    )


def waiting(draw: st.DrawFn, s: ExecutionState, at: int) -> e.EventBase:
    expires = draw(st.none() | st.just(9))
    number = s.waits + 1
    return e.WaitOpened(
        at=at, wait=number, kind="input", invocation_id=f"w_{number}", name="w", question=payload("ok?"), expires_at=expires
    )


def failed(draw: st.DrawFn, _: ExecutionState, at: int) -> e.EventBase:
    trace = draw(st.none() | st.just(payload("tb")))
    return e.ExecutionFailed(at=at, message=payload("no"), traceback=trace, **FAILURE)


LIFE = (
    lambda _, s, at: e.RunnerClaimed(at=at, epoch=s.epoch + 1, runner="r"),
    lambda draw, s, at: e.ExecutionSuspended(at=at, leaves_work=draw(st.booleans())),
    lambda _, s, at: e.ExecutionResumed(at=at, by="me"),
    lambda _, s, at: e.ExecutionRetried(at=at, by="runner", automatic=True),
    lambda _, s, at: e.CancelRequested(at=at, by="me"),
    lambda _, s, at: e.ExecutionCancelled(at=at),
    lambda _, s, at: e.ExecutionCompleted(at=at, output=payload(1)),
    failed,
)
WORK = (
    opened,
    reused,
    waiting,
    lambda draw, s, at: e.MetadataLogged(at=at, key="k", values=payload(draw(METADATA))),
    lambda _, s, at: e.ArtifactSaved(at=at, name="report", kind="output", value=payload("r")),
)


def closed(draw: st.DrawFn, at: int, wait: int) -> e.EventBase:
    if draw(st.booleans()):
        return e.WaitExpired(at=at, wait=wait)
    return e.WaitResolved(at=at, wait=wait, value=payload(3), by="me")


def tried(draw: st.DrawFn, s: ExecutionState, at: int, call: int) -> e.EventBase:
    attempt = s.attempts[call]
    if draw(st.integers(0, 3)) == 0:
        return used(draw, at, call, draw(st.integers(1, attempt)))
    if not s.in_flight >> call & 1:
        return e.AttemptStarted(at=at, call=call, attempt=attempt + 1)
    match draw(st.integers(0, 3)):
        case 0:
            return e.AttemptFailed(at=at, call=call, attempt=attempt, message=payload("x"), **FAILURE)
        case 1:
            return e.MetadataLogged(at=at, call=call, attempt=attempt, values=payload({"tier": "inner"}))
        case _:
            key = draw(st.sampled_from([None, "k1", "k2"]))
            return e.CheckpointCompleted(at=at, call=call, attempt=attempt, output=payload("out"), reuse_key=key)


TOKENS = st.none() | st.integers(0, 1000)
COSTS = st.none() | st.integers(0, 10**12)
EFFECTS = st.sampled_from(["incurred", "incurred", "unknown", "reused_not_incurred"])


def used(draw: st.DrawFn, at: int, call: int, attempt: int, effect: str | None = None) -> e.EventBase:
    """What a try of a call used, as any adapter may tell it."""
    told: dict[str, object] = {
        "adapter": draw(st.sampled_from(["kitaru.llm", "langgraph"])),
        "model": draw(st.sampled_from([None, "small", "é", "big"])),
        "billing_effect": effect or draw(EFFECTS),
        "input_tokens": draw(TOKENS),
        "output_tokens": draw(TOKENS),
        "total_tokens": draw(TOKENS),
        "actual_cost": draw(COSTS),
        "estimated_cost": draw(COSTS),
        "warnings": draw(st.sampled_from([(), (), ("dear",), ("odd", "dear")])),
    }
    record = {
        "record_id": "r",
        "attempt": attempt,
        "billing_effect": told["billing_effect"],
        "usage": {name: told[name] for name in ("input_tokens", "output_tokens", "total_tokens")},
    }
    return e.LLMUsageRecorded(
        at=at, call=call, attempt=attempt, record_id="r", record=payload(record), figures=UsageFigures(**told)
    )  # type: ignore[arg-type]


@st.composite
def streams(draw: st.DrawFn) -> Stream:
    state, found = ABSENT, Stream()
    at = 1_000
    for _ in range(draw(st.integers(1, 25))):
        at += draw(st.integers(-3, 10))  # clocks go back too
        event = next_event(draw, state, at)
        found.append(event)
        state = evolve(state, event)  # type: ignore[arg-type]
    return found


def forgotten(stream: Stream) -> Stream:
    """What a rebuild reads: the bytes of erased payloads are gone."""
    through = max((event.through for event in stream if isinstance(event, e.PayloadErased)), default=0)
    out = Stream()
    for version, event in enumerate(stream, 1):
        gone = {
            name: value.carrying(None)
            for name in event.payloads
            if version <= through and (value := getattr(event, name)) is not None
        }
        out.append(event.model_copy(update=gone))
    return out


SOME_STREAMS = st.lists(streams(), min_size=1, max_size=3).map(lambda found: dict(zip(count(1), found, strict=False)))
