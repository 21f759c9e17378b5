"""Files with flows in them, and executions that name such files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from kitaru.domain.commands import Start
from kitaru.domain.events import ExecutionStarted, FlowOptions, Target
from kitaru.domain.payload import Payload
from kitaru.runtime import recovery
from kitaru.runtime.start import new_exec_id
from kitaru.store.log import EventLog
from kitaru.store.values import CODEC, encode

SIMPLE = """
from kitaru import checkpoint, flow

@checkpoint
def double(x):
    return x * 2

@flow
def doubled(x):
    return double(x)

class Holder:
    pass

value = 5
"""


def source(path: Path, text: str = SIMPLE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def recorded(log: EventLog, target: Target, **inputs: Any) -> str:
    """An execution of that target which nobody runs."""
    exec_id = new_exec_id()
    started = ExecutionStarted(
        at=1,
        flow_id="f",
        flow_name="doubled",
        project="default",
        target=target,
        options=FlowOptions(),
        stack="local",
        inputs=Payload.of(encode(inputs), CODEC),
    )
    log.execute(exec_id, Start(started, None), 1)
    return exec_id


def recorded_in(log: EventLog, file: Path, qualname: str = "doubled") -> str:
    return recorded(log, Target(file=os.path.realpath(file), qualname=qualname, digest="0" * 32), x=4)


def status_after(log: EventLog, exec_id: str) -> Any:
    """The status of an execution that was recovered."""
    runner = recovery.take_over(log, exec_id)
    assert runner is not None
    runner.join()
    return log.head(exec_id).state.status
