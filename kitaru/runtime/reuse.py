"""Reuse across executions: the key under which a checkpoint's result may serve again, and finding one."""

from __future__ import annotations

import inspect
from hashlib import blake2b
from typing import NamedTuple, cast

from kitaru.domain.events import CheckpointCompleted, FlowOptions, LLMUsageRecorded
from kitaru.domain.ids import call_id
from kitaru.domain.payload import Payload
from kitaru.domain.usage import CacheStatus
from kitaru.projections.reuse import FIND
from kitaru.runtime.checkpoint import Checkpoint
from kitaru.runtime.options import Cache
from kitaru.runtime.session import Session
from kitaru.runtime.source import stamp_of
from kitaru.store.values import CODEC, ValueNotEncodable, canonical_module, encode

_NEAR = 16
"""Events before a result among which its usage records are looked for first, besides their number."""


class Reusable(NamedTuple):
    """A completed call of another execution."""

    call_id: str
    output: Payload
    usage: tuple[LLMUsageRecorded, ...] = ()
    """What the call used, in all its attempts."""


def key_of(checkpoint: Checkpoint[..., object], input_digest: str, options: FlowOptions) -> str | None:
    """The reuse key, or None where reuse is off or the function cannot be told apart by what is known of it.

    Made of module, qualified name, source, defaults, closure values, annotations, codec, inputs and the cache's text.
    Functions that the body calls are not seen.
    """
    cache = _closest(options.cache, checkpoint.cache, options.default_cache)
    if not cache or stamp_of(checkpoint.source_file) != checkpoint.stamp:
        return None  # the file was edited since it was loaded: its text is not the code that runs
    fn = checkpoint.fn
    try:
        source = inspect.getsource(fn)
        cells = [cell.cell_contents for cell in getattr(fn, "__closure__", None) or ()]
        parts = (
            canonical_module(fn.__module__),
            fn.__qualname__,
            source,
            list(getattr(fn, "__defaults__", None) or ()),
            dict(getattr(fn, "__kwdefaults__", None) or {}),
            cells,
            {name: str(kind) for name, kind in fn.__annotations__.items()},
            CODEC,
            input_digest,
            cache if isinstance(cache, str) else "",
        )
        return blake2b(encode(list(parts)), digest_size=32).hexdigest()
    except (OSError, TypeError, ValueError, ValueNotEncodable):
        return None


def find(session: Session, key: str) -> Reusable | None:
    """The newest completed call with that key, or None."""
    for exec_id, version in cast("list[tuple[str, int]]", session.log.query(FIND, (key,))):
        for recorded in session.log.read(exec_id, after=version - 1, limit=1):
            event = recorded.event
            if isinstance(event, CheckpointCompleted) and event.reuse_key == key:
                output = event.output.carrying(session.load(event.output))
                usage = _usage_before(session, exec_id, version, event) if event.usage else ()
                return Reusable(call_id(exec_id, event.call), output, usage)
    return None


def usage_of(
    session: Session, found: Reusable, at: int, call: int, name: str, cache_status: CacheStatus
) -> tuple[LLMUsageRecorded, ...]:
    """What the call used whose result is taken, as records of the call that takes it; those that were erased are gone."""
    from kitaru.runtime.usage import taken_over

    taken = (taken_over(session, event, at, call, name, cache_status) for event in found.usage)
    return tuple(event for event in taken if event is not None)


def _usage_before(
    session: Session, exec_id: str, version: int, completed: CheckpointCompleted
) -> tuple[LLMUsageRecorded, ...]:
    """A call's usage records: they stand before its result, mostly right before it."""
    reach = completed.usage + _NEAR
    while True:
        after = max(0, version - 1 - reach)
        between = [recorded.event for recorded in session.log.read(exec_id, after=after, limit=version - 1 - after)]
        found = [event for event in between if isinstance(event, LLMUsageRecorded) and event.call == completed.call]
        if len(found) >= completed.usage or not after:
            return tuple(found)
        reach *= 8


def _closest(*settings: Cache) -> Cache:
    return next((setting for setting in settings if setting is not None), None)
