"""Reuse across executions: the key under which a checkpoint's result may serve again, and finding one."""

from __future__ import annotations

import inspect
from hashlib import blake2b
from typing import NamedTuple, cast

from kitaru.domain.events import CheckpointCompleted, FlowOptions
from kitaru.domain.ids import call_id
from kitaru.domain.payload import Payload
from kitaru.projections.reuse import FIND
from kitaru.runtime.checkpoint import Checkpoint
from kitaru.runtime.options import Cache
from kitaru.runtime.session import Session
from kitaru.runtime.source import stamp_of
from kitaru.store.values import CODEC, ValueNotEncodable, canonical_module, encode


class Reusable(NamedTuple):
    """A completed call of another execution."""

    call_id: str
    output: Payload


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
                return Reusable(call_id(exec_id, event.call), output)
    return None


def _closest(*settings: Cache) -> Cache:
    return next((setting for setting in settings if setting is not None), None)
