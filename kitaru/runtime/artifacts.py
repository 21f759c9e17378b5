"""Finding the saved values and results of an execution by name: a saved one by its row, a result from the events."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

from kitaru.domain.events import ArtifactSaved, AttemptStarted, CheckpointCompleted, CheckpointReused
from kitaru.domain.ids import artifact_id
from kitaru.domain.payload import Payload
from kitaru.projections.artifacts import FIND
from kitaru.store.log import EventLog
from kitaru.store.values import decode

Found = list[tuple[str, Callable[[], object]]]


def find_values(log: EventLog | None, exec_id: str, name: str) -> Found:
    """(artifact id, loader) of what is called `name`: an exact invocation id wins; a name saved twice is its last value.

    Raises KitaruNotFoundError for an unknown execution.
    """
    if log is None:
        from kitaru.compose import open_log
        from kitaru.settings import resolve_store

        log = open_log(resolve_store())
    for (version,) in cast("list[tuple[int]]", log.query(FIND, (exec_id, name))):
        for recorded in log.read(exec_id, after=version - 1, limit=1):
            if isinstance(recorded.event, ArtifactSaved):
                return [(artifact_id(exec_id, version), partial(_load, log, recorded.event.value))]
    calls: dict[int, tuple[str, str]] = {}
    by_invocation: Found = []
    by_checkpoint: Found = []
    for recorded in log.read(exec_id):
        event = recorded.event
        ident = artifact_id(exec_id, recorded.version)
        match event:
            case AttemptStarted(invocation_id=str(invocation), name=str(checkpoint)):
                calls[event.call] = (invocation, checkpoint)
            case CheckpointReused(invocation_id=invocation, name=checkpoint):
                calls[event.call] = (invocation, checkpoint)
            case _:
                pass
        match event:
            case CheckpointCompleted() | CheckpointReused():
                invocation, checkpoint = calls[event.call]
                if invocation == name:
                    by_invocation.append((ident, partial(_load, log, event.output)))
                if checkpoint == name:
                    by_checkpoint.append((ident, partial(_load, log, event.output)))
            case _:
                pass
    return by_checkpoint if len(by_checkpoint) > 1 else by_invocation or by_checkpoint


def _load(log: EventLog, payload: Payload) -> object:
    return decode(payload.data if payload.data is not None else log.load(payload))
