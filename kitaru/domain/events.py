"""What can have happened to an execution: immutable events, one discriminated union.

`type` is an event's stable name and `v` its schema version. `at` is microseconds since 1970, UTC: it informs, the
version orders. Checkpoint calls, waits and runner epochs are numbered from 1 within their execution.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from kitaru.domain.errors import FailureOrigin
from kitaru.domain.limits import MAX_EVENTS
from kitaru.domain.payload import Payload
from kitaru.domain.status import ExecutionStatus
from kitaru.domain.usage import UsageFigures

Ordinal = Annotated[int, Field(ge=1, le=MAX_EVENTS)]
"""A call, attempt or wait. Bounded: the state keeps calls as bits, and what a store says is not trusted."""


class EventBase(BaseModel):
    """The fields of every event. `payloads` names the fields that hold a Payload."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    payloads: ClassVar[tuple[str, ...]] = ()

    v: Literal[1] = 1
    at: int


class Target(BaseModel):
    """Where a flow's code is: an absolute file and the qualified name in it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    file: str | None
    qualname: str
    digest: str | None = None


class FlowOptions(BaseModel):
    """The options that an execution was started with. `cache` is the run's own and outranks the checkpoints'."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    retries: int = 0
    cache: bool | str | None = None
    default_cache: bool | str | None = None
    strict: bool = False
    image: str | None = None
    max_cost_usd: float | None = None
    max_tokens: int | None = None


class ExecutionStarted(EventBase):
    """An execution exists: which flow, from which code, with which inputs.

    A replay names the execution it replays, the call from which on it runs anew, and values that stand in for results.
    """

    payloads = ("inputs", "metadata", "overrides")
    type: Literal["ExecutionStarted"] = "ExecutionStarted"
    flow_id: str
    flow_name: str
    project: str
    target: Target
    options: FlowOptions
    stack: str
    tags: tuple[str, ...] = ()
    inputs: Payload
    metadata: Payload | None = None
    idempotency_key: str | None = None
    original_exec_id: str | None = None
    replay_from: Ordinal | None = None
    overrides: Payload | None = None


class RunnerClaimed(EventBase):
    """A runner took the execution; appends of earlier epochs are refused from here on.

    `file_digest` is set when it was lost or suspended, and its source changed since the start.
    """

    type: Literal["RunnerClaimed"] = "RunnerClaimed"
    epoch: int
    runner: str
    file_digest: str | None = None


class ExecutionSuspended(EventBase):
    """The runner left an execution that can go on: after Ctrl-C, or as nothing could run before an input or a time.

    `leaves_work`: something is awaited, and besides it there is more to do that need not wait for it.
    """

    type: Literal["ExecutionSuspended"] = "ExecutionSuspended"
    leaves_work: bool = False


class ExecutionResumed(EventBase):
    """Somebody asked for the execution to go on. `file_digest` is set when the source changed since the start."""

    type: Literal["ExecutionResumed"] = "ExecutionResumed"
    by: str
    file_digest: str | None = None


class ExecutionRetried(EventBase):
    """The failed calls are open again; completed ones stay. `automatic`: by the flow's own `retries`."""

    type: Literal["ExecutionRetried"] = "ExecutionRetried"
    by: str
    automatic: bool = False
    file_digest: str | None = None


class CancelRequested(EventBase):
    """The execution is to stop at its next boundary."""

    type: Literal["CancelRequested"] = "CancelRequested"
    by: str


class ExecutionCancelled(EventBase):
    """The execution ended before its end."""

    type: Literal["ExecutionCancelled"] = "ExecutionCancelled"


class FailureFields(EventBase):
    """What is kept of an exception: enough to raise it again with its class."""

    payloads = ("message", "traceback", "exception")
    origin: FailureOrigin
    exception_type: str
    message: Payload
    traceback: Payload | None = None
    exception: Payload | None = None


class ExecutionFailed(FailureFields):
    """The body raised, or the runtime could not go on."""

    type: Literal["ExecutionFailed"] = "ExecutionFailed"


class ExecutionCompleted(EventBase):
    """The body returned."""

    payloads = ("output",)
    type: Literal["ExecutionCompleted"] = "ExecutionCompleted"
    output: Payload


class AttemptStarted(EventBase):
    """A try of a checkpoint begins. Attempt 1 opens the call and alone carries the fields after `attempt`.

    `opaque` names the arguments that do not encode; they stand in `input_digest` by the name of their type.
    """

    type: Literal["AttemptStarted"] = "AttemptStarted"
    call: Ordinal
    attempt: Ordinal
    invocation_id: str | None = None
    name: str | None = None
    checkpoint_type: str | None = None
    input_digest: str | None = None
    parents: tuple[Ordinal, ...] = ()
    opaque: tuple[str, ...] = ()


class AttemptFailed(FailureFields):
    """A try raised, timed out or crashed. `retry_after` is seconds to the next try, None when there is none."""

    type: Literal["AttemptFailed"] = "AttemptFailed"
    call: Ordinal
    attempt: Ordinal
    retry_after: float | None = None


class CheckpointCompleted(EventBase):
    """A call has its result, for ever. `usage` counts the LLM usage records of all its attempts."""

    payloads = ("output",)
    type: Literal["CheckpointCompleted"] = "CheckpointCompleted"
    call: Ordinal
    attempt: Ordinal
    output: Payload
    reuse_key: str | None = None
    usage: int = 0


class CheckpointFailed(EventBase):
    """A call failed: its last attempt was final. Only a retry reopens it."""

    type: Literal["CheckpointFailed"] = "CheckpointFailed"
    call: Ordinal
    attempt: Ordinal


class CheckpointReused(EventBase):
    """A call took the recorded result of another call and ran nothing."""

    payloads = ("output",)
    type: Literal["CheckpointReused"] = "CheckpointReused"
    call: Ordinal
    invocation_id: str
    name: str
    checkpoint_type: str | None = None
    input_digest: str
    parents: tuple[Ordinal, ...] = ()
    output: Payload
    original_call_id: str


class InputsDiffered(EventBase):
    """The code made a recorded call with other inputs; the recorded result was given all the same."""

    type: Literal["InputsDiffered"] = "InputsDiffered"
    call: Ordinal
    input_digest: str


class WaitOpened(EventBase):
    """The flow needs an input (`kind` input) or a moment (`kind` timer)."""

    payloads = ("question", "json_schema", "metadata", "default")
    type: Literal["WaitOpened"] = "WaitOpened"
    wait: Ordinal
    kind: Literal["input", "timer"]
    invocation_id: str
    name: str
    question: Payload | None = None
    json_schema: Payload | None = None
    metadata: Payload | None = None
    default: Payload | None = None
    expires_at: int | None = None


class WaitResolved(EventBase):
    """A wait was answered."""

    payloads = ("value",)
    type: Literal["WaitResolved"] = "WaitResolved"
    wait: Ordinal
    value: Payload
    by: str


class WaitAborted(EventBase):
    """A wait was given up; the execution is to be cancelled."""

    type: Literal["WaitAborted"] = "WaitAborted"
    wait: Ordinal
    by: str


class WaitExpired(EventBase):
    """A wait's time ran out, or a timer came due."""

    type: Literal["WaitExpired"] = "WaitExpired"
    wait: Ordinal


class ArtifactSaved(EventBase):
    """A named value was saved by the flow body (`call` None) or by a checkpoint's attempt."""

    payloads = ("value",)
    type: Literal["ArtifactSaved"] = "ArtifactSaved"
    key: str | None = None
    call: Ordinal | None = None
    attempt: Ordinal | None = None
    name: str
    kind: Literal["prompt", "response", "context", "input", "output", "blob"]
    tags: tuple[str, ...] = ()
    value: Payload


class MetadataLogged(EventBase):
    """Metadata of the execution (`call` None) or of a checkpoint's attempt: scalars replace, dicts merge."""

    payloads = ("values",)
    type: Literal["MetadataLogged"] = "MetadataLogged"
    key: str | None = None
    call: Ordinal | None = None
    attempt: Ordinal | None = None
    values: Payload


class TagsChanged(EventBase):
    """Tags were added or removed, from the flow body (`key` set) or from outside (`by` set)."""

    type: Literal["TagsChanged"] = "TagsChanged"
    key: str | None = None
    by: str | None = None
    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()


class LLMUsageRecorded(EventBase):
    """One `llm_usage_v1` record of an attempt, or of a call that took a result over: then `attempt` is the original's.

    `figures` is what of it adds up, and stays when the payload is erased.
    """

    payloads = ("record",)
    type: Literal["LLMUsageRecorded"] = "LLMUsageRecorded"
    call: Ordinal
    attempt: Ordinal
    record_id: str
    record: Payload
    figures: UsageFigures = UsageFigures()


class PayloadErased(EventBase):
    """The payloads of the events up to `through` are gone; their digests stay."""

    type: Literal["PayloadErased"] = "PayloadErased"
    by: str
    through: int


class HistoryDropped(EventBase):
    """The events up to `through` are gone, and this one begins the stream: what counts and lists need is `kept`.

    `previous` is the digest of the last event that is gone, in hexadecimal digits; the rest is how that one left things.
    """

    payloads = ("kept",)
    type: Literal["HistoryDropped"] = "HistoryDropped"
    by: str
    through: int
    previous: str
    status: ExecutionStatus
    epoch: int
    waits: int
    cancel_requested: bool = False
    woken: bool = False
    kept: Payload


Event = Annotated[
    ExecutionStarted
    | RunnerClaimed
    | ExecutionSuspended
    | ExecutionResumed
    | ExecutionRetried
    | CancelRequested
    | ExecutionCancelled
    | ExecutionFailed
    | ExecutionCompleted
    | AttemptStarted
    | AttemptFailed
    | CheckpointCompleted
    | CheckpointFailed
    | CheckpointReused
    | InputsDiffered
    | WaitOpened
    | WaitResolved
    | WaitAborted
    | WaitExpired
    | ArtifactSaved
    | MetadataLogged
    | TagsChanged
    | LLMUsageRecorded
    | PayloadErased
    | HistoryDropped,
    Field(discriminator="type"),
]
