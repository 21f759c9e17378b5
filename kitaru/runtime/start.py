"""Starting an execution: inputs checked and encoded, the first events appended, the runner set going."""

from __future__ import annotations

import inspect
import os
import warnings
from typing import TYPE_CHECKING, TypeVar, cast

from kitaru.domain.commands import Start
from kitaru.domain.errors import (
    KitaruStateError,
    KitaruUsageError,
)
from kitaru.domain.events import Event, ExecutionStarted, FlowOptions
from kitaru.domain.ids import flow_id, uuid7
from kitaru.domain.payload import Payload
from kitaru.domain.state import ABSENT, evolve
from kitaru.runtime import code, process, trust
from kitaru.runtime.clock import installed as installed_clock
from kitaru.runtime.handle import FlowHandle
from kitaru.runtime.history import History
from kitaru.runtime.options import Cache, ImageSettings, checked_cache, checked_count, checked_tags
from kitaru.runtime.runner import Runner
from kitaru.runtime.scope import FlowScope, current, flow_scope
from kitaru.runtime.session import Session, check_size, encode_metadata, encode_payload
from kitaru.store.log import EventLog
from kitaru.store.values import ValueNotEncodable, ValueTooLarge

if TYPE_CHECKING:
    from kitaru.runtime.flow import Flow

R = TypeVar("R")
_warned_about_images: set[str] = set()
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_OPTIONS = ("stack", "cache", "retries", "image")


def run(flow: Flow[..., R], args: tuple[object, ...], inputs: dict[str, object]) -> FlowHandle[R]:
    """Start one execution; see `Flow.run`."""
    if code.is_loading():
        raise KitaruUsageError(
            f"{flow.name}.run(...) was called while its file was being loaded to go on with an execution; put the call "
            'under `if __name__ == "__main__":`',
            code="unguarded-script",
        )
    from kitaru.settings import configured as settings
    from kitaru.settings import resolve_project

    project = resolve_project()
    given = {name: inputs.pop(name) for name in _OPTIONS if name in inputs}
    log = open_log()
    started = ExecutionStarted(
        at=installed_clock().now(),
        flow_id=flow_id(log.store_id, project, flow.name),
        flow_name=flow.name,
        project=project,
        target=code.target_of_flow(flow),
        options=FlowOptions(
            retries=checked_count(_first(given.get("retries"), flow.retries or None, settings.retries, 0), "retries"),
            cache=checked_cache(given.get("cache"), "cache"),
            default_cache=checked_cache(_first(flow.cache, settings.cache, _cache_from_environment()), "cache"),
            strict=flow.strict,
            image=_image(_first(given.get("image"), flow.image, settings.image), flow.name),
            max_cost_usd=_first(flow.settings.max_cost_usd, flow.max_cost_usd),  # type: ignore[arg-type]
            max_tokens=_first(flow.settings.max_tokens, flow.max_tokens),  # type: ignore[arg-type]
        ),
        stack=_stack(_first(given.get("stack"), flow.stack)),
        tags=checked_tags((*flow.tags, *flow.settings.tags)),
        inputs=encoded_inputs(flow, args, inputs),
        metadata=encode_metadata(dict(flow.settings.metadata)) if flow.settings.metadata else None,
        idempotency_key=flow.settings.idempotency_key or _child_key(flow.name),
    )
    if started.target.file is not None:
        trust.trust_folder_of(log.store_id, started.target.file)
    return begin(flow, log, started, Start(started, log.leases.acquire() if started.stack == "local" else None))


def open_log() -> EventLog:
    """The log of the store that is configured here."""
    from kitaru.compose import open_log as opened
    from kitaru.settings import resolve_store

    return opened(resolve_store())


def begin(flow: Flow[..., R], log: EventLog, started: ExecutionStarted, command: Start) -> FlowHandle[R]:
    """Append the start and set the runner going, unless the execution is left to a worker."""
    exec_id = new_exec_id()
    from kitaru.runtime.replaying import original_of

    with process.beginning(log.location, exec_id):
        head, events = log.execute(exec_id, command, started.at)
        if not events:
            return _existing(flow, log, head.exec_id, started)
        if command.runner is None:
            return FlowHandle(log, exec_id, flow, None, takes_over=started.stack == "local")
        state = ABSENT
        history = History()
        for event in events:
            state = evolve(state, cast("Event", event))
            history.add(event)
        session = Session(
            log, head._replace(state=state), started.options, installed_clock(), history, is_async=flow.is_async
        )
        session.original = original_of(log, started)
        runner = Runner(flow.fn, session)
        runner.start()
    return FlowHandle(log, exec_id, flow, runner)


def _existing(flow: Flow[..., R], log: EventLog, exec_id: str, started: ExecutionStarted) -> FlowHandle[R]:
    first = next((recorded.event for recorded in log.read(exec_id, limit=1)), None)
    if first is None:
        raise KitaruStateError(
            f"the idempotency key {started.idempotency_key!r} belongs to the execution {exec_id}, whose events were "
            "dropped: whether it was asked the same is not known any more; use another key",
            code="idempotency-conflict",
        )
    if isinstance(first, ExecutionStarted) and _asked(first) == _asked(started):
        return FlowHandle(log, exec_id, flow, None, takes_over=first.stack == "local")
    raise KitaruStateError(
        f"the idempotency key {started.idempotency_key!r} belongs to the execution {exec_id}, which has other inputs or "
        "replays something else; use another key",
        code="idempotency-conflict",
    )


def _asked(started: ExecutionStarted) -> tuple[object, ...]:
    """What has to be the same for one key to mean one execution."""
    stand_ins = None if started.overrides is None else started.overrides.digest
    return started.inputs.digest, started.original_exec_id, started.replay_from, stand_ins


def new_exec_id() -> str:
    """A fresh execution id."""
    return uuid7(installed_clock().now() // 1000, int.from_bytes(os.urandom(10)))


def encoded_inputs(flow: Flow[..., object], args: tuple[object, ...], inputs: dict[str, object]) -> Payload:
    """The inputs as a flow's parameters, encoded. Raises KitaruUsageError that names the parameter."""
    signature = flow.signature
    _refuse_unknown(flow, signature, inputs)
    try:
        bound = signature.bind(*args, **inputs)
    except TypeError as error:
        raise KitaruUsageError(f"{flow.name}.run(): {error}") from None
    bound.apply_defaults()
    arguments = dict(bound.arguments)
    for name, parameter in bound.signature.parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            arguments |= arguments.pop(name, {})
    for name, value in arguments.items():
        try:
            check_size(value, f"the input {name!r}")
        except ValueNotEncodable as refused:
            raise _wrong_input(flow, name, refused) from refused
    try:
        return encode_payload(arguments, "the inputs together")[0]
    except ValueNotEncodable as refused:
        for name, value in arguments.items():
            try:
                encode_payload(value, f"the input {name!r}")
            except ValueNotEncodable as culprit:
                raise _wrong_input(flow, name, culprit) from culprit
        raise KitaruUsageError(f"{flow.name}.run(): {refused}", code=refused.code) from refused


def _refuse_unknown(flow: Flow[..., object], signature: inspect.Signature, inputs: dict[str, object]) -> None:
    kinds = {name: parameter.kind for name, parameter in signature.parameters.items()}
    if inspect.Parameter.VAR_KEYWORD in kinds.values():
        return
    named = [name for name, kind in kinds.items() if kind in _BY_NAME]
    unknown = [name for name in inputs if name not in named]
    if unknown:
        what = f"no input {unknown[0]!r}" if len(unknown) == 1 else f"no inputs {', '.join(map(repr, unknown))}"
        raise KitaruUsageError(f"{flow.name} has {what}; its inputs: {', '.join(named) or 'none'}")


def _wrong_input(flow: Flow[..., object], name: str, refused: ValueNotEncodable) -> KitaruUsageError:
    what = "" if isinstance(refused, ValueTooLarge) else f"the input {name!r} does not encode: "
    return KitaruUsageError(f"{flow.name}.run(): {what}{refused}", code=refused.code)


def _child_key(flow_name: str) -> str | None:
    """A run inside a flow's body is made once: going on finds the execution that it started before."""
    if not isinstance(current.get(), FlowScope):
        return None
    scope = flow_scope(f"{flow_name}.run")
    scope.session.check_leaving()
    return f"child:{scope.session.exec_id}:{scope.take('#run')}:{flow_name}"[:256]


def _cache_from_environment() -> Cache:
    named = os.environ.get("KITARU_CACHE") or None
    return {"true": True, "1": True, "false": False, "0": False}.get(named.lower(), named) if named else None


def _stack(stack: object) -> str:
    from kitaru.stacks import checked_stack, resolve_stack

    return resolve_stack().name if stack is None else checked_stack(stack)


def _image(image: object, flow_name: str) -> str | None:
    if image is None:
        return None
    if not isinstance(image, (str, ImageSettings)):
        raise KitaruUsageError(f"image has to be a text or ImageSettings, not {image!r}")
    if flow_name not in _warned_about_images:
        _warned_about_images.add(flow_name)
        warnings.warn(f"the flow {flow_name} runs on the local stack; its image is recorded, not used", stacklevel=4)
    if isinstance(image, str):
        return image
    hidden = image._replace(environment=dict.fromkeys(image.environment, "***"))  # its values may be secrets
    return repr(hidden)


def _first(*settings: object) -> object:
    return next((setting for setting in settings if setting is not None), None)
