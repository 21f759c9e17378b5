"""Replay: a new execution that takes over an old one's results up to a chosen call, and runs anew from there.

A call is taken over when it was made before that call, completed, and is made again with the inputs it had; or when an
override stands in for its result. Everything else runs. Waits are asked anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, TypeVar, cast

from kitaru.domain.commands import Start
from kitaru.domain.errors import KitaruNotFoundError, KitaruRuntimeError, KitaruStateError, KitaruUsageError
from kitaru.domain.events import ExecutionStarted, LLMUsageRecorded
from kitaru.domain.ids import call_id, parse_part
from kitaru.domain.metadata import merged
from kitaru.domain.payload import Payload
from kitaru.runtime import code, recovery, start, trust
from kitaru.runtime.clock import installed as installed_clock
from kitaru.runtime.history import History, RecordedCall
from kitaru.runtime.options import checked_tags
from kitaru.runtime.session import encode_metadata, encode_payload
from kitaru.store.log import EventLog
from kitaru.store.values import decode

if TYPE_CHECKING:
    from kitaru.runtime.flow import Flow
    from kitaru.runtime.handle import FlowHandle

R = TypeVar("R")


class Original:
    """The execution that is replayed, as far as it may be taken over."""

    def __init__(self, exec_id: str, history: History, from_call: int, overrides: Mapping[int, Payload]) -> None:
        self._exec_id = exec_id
        self._overrides = overrides
        self.history = history
        history.reopen(lambda recorded: recorded.call not in overrides and recorded.call >= from_call)

    def find(self, invocation_id: str, input_digest: str) -> Taken | None:
        """The result that stands in for the call, or None when it is to run."""
        recorded = self.history.find(invocation_id)
        if recorded is None:
            return None
        output, usage = self._overrides.get(recorded.call), ()
        if output is not None:
            self.history.runs_anew(recorded.call)  # with another result, the code may go another way
        elif input_digest == recorded.input_digests[0]:  # the others are of calls that were given the result all the same
            output = recorded.output
            usage = tuple(self.history.usage_of.get(recorded.call, ()))
        return None if output is None else Taken(call_id(self._exec_id, recorded.call), output, usage)

    def runs(self, invocation_id: str) -> bool:
        """The call is not taken over: what was recorded after it is optional now. Gives whether it was made then, too."""
        recorded = self.history.find(invocation_id)
        self.history.runs_anew(None if recorded is None else recorded.call)
        return recorded is not None


class Taken(NamedTuple):
    """A result taken over and the call that it was recorded for. An override was asked of nobody: it has no usage."""

    call_id: str
    output: Payload
    usage: tuple[LLMUsageRecorded, ...]


def original_of(log: EventLog, started: ExecutionStarted) -> Original | None:
    """What an execution replays, None when it is no replay. Raises KitaruRuntimeError when that is gone."""
    if started.original_exec_id is None or started.replay_from is None:
        return None
    overrides: dict[int, Payload] = {}
    if started.overrides is not None:
        data = started.overrides.data if started.overrides.data is not None else log.load(started.overrides)
        for call, value in cast("dict[int, object]", decode(data)).items():
            overrides[call] = encode_payload(value, "an override")[0]
    try:
        history = History.read(log, started.original_exec_id)
    except KitaruNotFoundError:
        history = None
    if history is None or history.started is None:
        raise KitaruRuntimeError(
            f"the execution {started.original_exec_id}, which this one replays, is gone; start a new one",
            code="original-gone",
        )
    return Original(started.original_exec_id, history, started.replay_from, overrides)


def replay(
    log: EventLog,
    exec_id: str,
    flow: Flow[..., R] | None,
    from_: str,
    overrides: Mapping[str, object] | None,
    inputs: dict[str, object],
    *,
    detach: bool = False,
) -> FlowHandle[R]:
    """Start a replay and give its handle.

    Raises KitaruStateError while a runner is alive and for a selector that fits no call, or several; KitaruUsageError for
    inputs and overrides that do not fit; KitaruRuntimeError when the flow cannot be loaded.
    """
    _check_words(exec_id, from_)
    head = log.head(exec_id)
    if head.state.runner is not None and recovery.lost_epoch(log, exec_id) is None:
        raise KitaruStateError(f"the execution {exec_id} is running; wait for its end, or cancel it, then replay it")
    history = History.read(log, exec_id)
    old = history.started
    if old is None:
        raise recovery.without_history(log, exec_id)
    if flow is not None and flow.name != old.flow_name:
        raise KitaruUsageError(
            f"the execution {exec_id} is one of the flow {old.flow_name!r}, not of {flow.name!r}: replay it by that flow "
            f"({old.flow_name}.replay, or --target FILE.py:{old.target.qualname}). If the flow was renamed, decorate it "
            f"with @flow(name={old.flow_name!r})"
        )
    from_call = _select(history, exec_id, from_)
    stand_ins = {_select(history, exec_id, selector): value for selector, value in checked_overrides(overrides).items()}
    is_named = flow is not None  # by the user, who thereby runs it; what a store names is trusted before it is loaded
    if flow is None:
        flow = cast("Flow[..., R]", code.load_recorded(old.target, old.flow_name, log.store_id))
    data = old.inputs.data if old.inputs.data is not None else log.load(old.inputs)
    arguments = {**cast("dict[str, object]", decode(data)), **inputs}
    asked = flow.settings
    budgets = {"max_cost_usd": asked.max_cost_usd, "max_tokens": asked.max_tokens}
    started = old.model_copy(
        update={
            "at": installed_clock().now(),
            "target": code.target_of_flow(flow),
            "inputs": start.encoded_inputs(flow, (), arguments),
            "options": old.options.model_copy(update={name: most for name, most in budgets.items() if most is not None}),
            "tags": checked_tags((*old.tags, *asked.tags)) if asked.tags else old.tags,
            "idempotency_key": asked.idempotency_key,
            "original_exec_id": exec_id,
            "replay_from": from_call.call,
            "overrides": encode_payload({call.call: value for call, value in stand_ins.items()}, "the overrides")[0]
            if stand_ins
            else None,
            "metadata": _metadata(log, old.metadata, asked.metadata),
            "stack": old.stack if not detach else "worker",
        }
    )
    if is_named and started.target.file is not None:
        trust.trust_folder_of(log.store_id, started.target.file)
    return start.begin(flow, log, started, Start(started, None if detach else log.leases.acquire()))


def _check_words(exec_id: object, from_: object) -> None:
    """Raises KitaruUsageError for what no execution and no call can be named by."""
    if not isinstance(exec_id, str) or not exec_id.isprintable() or not exec_id:
        hint = "; give handle.exec_id" if hasattr(exec_id, "exec_id") else ""
        raise KitaruUsageError(f"exec_id has to be the id of an execution, a text, not {exec_id!r}{hint}")
    if not isinstance(from_, str):
        raise KitaruUsageError(f"from_ has to be a checkpoint's name, invocation id or call id, a text, not {from_!r}")


def checked_overrides(overrides: Mapping[str, object] | None) -> dict[str, object]:
    """Overrides by selector, the prefix `checkpoint.` taken off. Raises KitaruUsageError for another prefix."""
    selected: dict[str, object] = {}
    if overrides is not None and not isinstance(overrides, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise KitaruUsageError(f'the overrides have to be a dict such as {{"checkpoint.NAME": VALUE}}, not {overrides!r}')
    for key, value in (overrides or {}).items():
        prefix, dot, selector = key.partition(".") if isinstance(key, str) else ("", "", "")  # pyright: ignore[reportUnnecessaryIsInstance]
        if prefix != "checkpoint" or not dot or not selector:
            raise KitaruUsageError(f"the override {key!r} has to be checkpoint.<name, invocation id or call id>")
        selected[selector] = value
    return selected


def _select(history: History, exec_id: str, selector: str) -> RecordedCall:
    part = parse_part(selector, "c")
    if part is not None and exec_id.startswith(part[0]):
        found = [call for _, call in history.calls() if call.call == part[1]]
    else:
        found = [call for _, call in history.calls() if call.name == selector]
        if len(found) > 1:
            ids = ", ".join(call_id(exec_id, call.call) for call in found[:10])
            raise KitaruStateError(f"{selector!r} names {len(found)} calls of {exec_id}; name one by its call id: {ids}")
        found = found or [call for ident, call in history.calls() if ident == selector]
    if not found:
        names = ", ".join(repr(ident) for ident, _ in history.calls()[:20]) or "none"
        raise KitaruStateError(f"the execution {exec_id} made no call {selector!r}; its calls: {names}")
    return found[0]


def _metadata(log: EventLog, old: Payload | None, given: Mapping[str, object] | None) -> Payload | None:
    """The old execution's, with what was given for the new one logged on top."""
    data = None if old is None else old.data if old.data is not None else log.load(old)
    if not given:
        return None if old is None or data is None else old.carrying(data)
    before = {} if data is None else cast("dict[str, object]", decode(data))
    return encode_metadata(merged(before, dict(given)))
