"""What a flow's body and its checkpoints record beside results: log, save, tag, progress; and what they may ask."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Literal, TypedDict, get_args

from kitaru.domain.errors import KitaruContextError, KitaruRuntimeError, KitaruUsageError
from kitaru.domain.events import ArtifactSaved, MetadataLogged, TagsChanged
from kitaru.runtime.options import checked_amount, checked_name, checked_tags
from kitaru.runtime.scope import CallScope, FlowScope, RemoteScope, current, flow_scope
from kitaru.runtime.session import encode_metadata, encode_payload

ArtifactKind = Literal["prompt", "response", "context", "input", "output", "blob"]


def log(**metadata: object) -> None:
    """Record metadata: in a checkpoint on that call, in the flow's body on the execution. Scalars replace, dicts merge.

    Raises KitaruContextError outside a flow, KitaruUsageError for a value that does not encode.
    """
    scope = _inside("kitaru.log")
    for key in metadata:
        checked_name(key, "a metadata key")
    if not metadata:
        return
    if isinstance(scope, RemoteScope):
        scope.send({"log": metadata})
        return
    where = _place(scope, "log")
    if where is not None:
        values = encode_metadata(metadata)
        scope.record(lambda at: MetadataLogged(at=at, values=values, **where))


def progress(message: str, *, percent: float | None = None, **fields: object) -> None:
    """Say how far things are; the latest word stands under the metadata key `progress`."""
    if percent is not None and not checked_amount(percent, "percent") <= 100:
        raise KitaruUsageError(f"percent has to be between 0 and 100, not {percent!r}")
    log(progress={"message": message, "percent": percent, **fields})  # None too: logged dicts merge


def save(name: str, value: object, *, type: ArtifactKind = "output", tags: Iterable[str] = ()) -> None:
    """Keep a value as an artifact of the execution, loaded again by `load` or the client.

    Raises KitaruUsageError for a value that does not encode or an unknown type, KitaruContextError outside a flow.
    """
    scope = _inside("kitaru.save")
    checked_name(name, "the artifact's name")
    if type not in get_args(ArtifactKind):
        raise KitaruUsageError(f"an artifact's type is one of {', '.join(get_args(ArtifactKind))}, not {type!r}")
    labels = checked_tags(tags)
    if isinstance(scope, RemoteScope):
        scope.send({"save": name, "value": value, "type": type, "tags": list(labels)})
        return
    where = _place(scope, "save")
    if where is not None:
        payload, _ = encode_payload(value, f"the artifact {name!r}")
        scope.record(lambda at: ArtifactSaved(at=at, name=name, kind=type, tags=labels, value=payload, **where))


def tag(*tags: str) -> None:
    """Add tags to the execution, from the flow's body."""
    scope = flow_scope("kitaru.tag")
    labels = checked_tags(tags)
    key = _key(scope, "tag")
    if labels and key is not None:
        scope.session.report(lambda _, at: (TagsChanged(at=at, key=key, add=labels),))


def load(exec_id: str, name: str) -> object:
    """The value of an artifact or a checkpoint of that name, or of a checkpoint's invocation id.

    Raises KitaruRuntimeError when there is none, or more than one.
    """
    from kitaru.runtime.artifacts import find_values

    scope = current.get()
    log = scope.session.log if isinstance(scope, (FlowScope, CallScope)) else None
    found = find_values(log, exec_id, name)
    if not found:
        raise KitaruRuntimeError(f"the execution {exec_id} has no artifact and no checkpoint result named {name!r}")
    if len(found) > 1:
        ids = ", ".join(ident for ident, _ in found[:5])
        raise KitaruRuntimeError(
            f"{name!r} names {len(found)} values of the execution {exec_id} ({ids}); use an invocation id, or "
            "client.artifacts.get(artifact_id)"
        )
    return found[0][1]()


def current_execution_id() -> str:
    """The id of the execution that this code runs in. Raises KitaruContextError outside a flow."""
    return _inside("kitaru.current_execution_id").exec_id


def is_replay() -> bool:
    """Whether this run of the body began with recorded calls: it was recovered, resumed, retried or replayed."""
    return flow_scope("kitaru.is_replay").session.replaying


def idempotency_key() -> str:
    """A text that is the same for every attempt of this checkpoint call, and no other call's. 32 hexadecimal digits."""
    scope = _inside("kitaru.idempotency_key")
    if isinstance(scope, FlowScope):
        raise KitaruContextError("kitaru.idempotency_key was called outside a checkpoint; call it in a checkpoint's body")
    text = f"{scope.exec_id}\0{scope.invocation_id}"
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _inside(what: str) -> FlowScope | CallScope | RemoteScope:
    scope = current.get()
    if isinstance(scope, (CallScope, RemoteScope)):
        return scope
    return flow_scope(what)


class _Place(TypedDict, total=False):
    """The fields of a fact's event that say where it belongs."""

    key: str
    call: int
    attempt: int


def _place(scope: FlowScope | CallScope, kind: str) -> _Place | None:
    """Where a fact belongs; None when the flow's body has recorded it in an earlier run."""
    if isinstance(scope, CallScope):
        return _Place(call=scope.call, attempt=scope.attempt)
    key = _key(scope, kind)
    return None if key is None else _Place(key=key)


def _key(scope: FlowScope, kind: str) -> str | None:
    """The id of the body's next fact of a kind, None when it is recorded or the runner is leaving an async flow."""
    if not scope.session.goes_on():
        return None
    key = scope.take(f"#{kind}")
    return None if scope.session.history.has_fact(key) else key
