"""The parent's side of an isolated checkpoint: a fresh Python process, values over pipes, no pickle.

Frames are a length of 8 bytes, big endian, and a value by the codec. The child sends facts (log, save) as they happen and
then one result; a child that dies is a failed attempt.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import BinaryIO, cast

from kitaru import python
from kitaru.domain.errors import KitaruRuntimeError, KitaruUsageError
from kitaru.domain.limits import MAX_PAYLOAD_BYTES
from kitaru.runtime import facts, printed, usage
from kitaru.runtime.budget import Budget
from kitaru.runtime.checkpoint import Prepared
from kitaru.runtime.scope import CallScope, current
from kitaru.store.values import ValueNotEncodable, canonical_module, decode, encode

_LENGTH_BYTES = 8


def run(prepared: Prepared, scope: CallScope) -> object:
    """Run one attempt in its own process and give its value, or raise its exception.

    Raises KitaruUsageError for a function or argument that cannot go there, TimeoutError (the process is killed),
    KitaruRuntimeError when the process died.
    """
    checkpoint = prepared.checkpoint
    fn = checkpoint.fn
    if "<locals>" in fn.__qualname__ or not os.path.isfile(fn.__code__.co_filename):
        raise KitaruUsageError(
            f"the checkpoint {checkpoint.name!r} is isolated and has to be a function of a module, not of "
            f"{fn.__qualname__}: define it at the top level of a file"
        )
    started = prepared.session.history.started
    try:
        request = encode(
            {
                "file": os.path.realpath(fn.__code__.co_filename),
                "module": canonical_module(fn.__module__),
                "qualname": fn.__qualname__,
                "path": [entry for entry in sys.path if entry],
                "exec_id": prepared.session.exec_id,
                "invocation_id": prepared.invocation_id,
                "name": checkpoint.name,
                "store": _folder_of(prepared),
                "project": started.project if started is not None else None,
                "budget": list(Budget.of(prepared.session)),
                "args": list(prepared.args),
                "kwargs": prepared.kwargs,
            }
        )
    except ValueNotEncodable as refused:
        raise KitaruUsageError(
            f"an argument of the isolated checkpoint {checkpoint.name!r} does not encode: {refused}"
        ) from refused
    child = subprocess.Popen(
        python.command("kitaru.runtime.isolated"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        process_group=0,  # Ctrl-C is for the runner, which lets the body end
        env=python.environment(),
    )
    session = prepared.session
    scope.abandon = partial(_kill, child)
    threading.Thread(target=_end_group, args=(child,), name="kitaru-isolated", daemon=True).start()

    def kill() -> None:
        if session.is_over:
            _kill(child)

    too_late = threading.Event()
    timer = _deadline(child, checkpoint.timeout, too_late)
    try:
        with session.calling_on_leave(kill):
            return _converse(child, request, prepared, scope)
    except (EOFError, BrokenPipeError):
        code = child.wait()
        if session.is_over:
            session.check_leaving()
        if too_late.is_set():
            raise TimeoutError(
                f"the checkpoint {prepared.invocation_id!r} took more than its {checkpoint.timeout:g} seconds; its "
                "process was killed"
            ) from None
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        raise KitaruRuntimeError(
            f"the process of the isolated checkpoint {prepared.invocation_id!r} {how} without a result",
            code="isolated-process-died",
        ) from None
    finally:
        if timer is not None:
            timer.cancel()
        _kill(child)
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()


def _kill(child: subprocess.Popen[bytes]) -> None:
    """End the child and what it has forked: they are a process group, which exists until the child is waited for."""
    if child.returncode is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)


def _end_group(child: subprocess.Popen[bytes]) -> None:
    """Once the child has ended, end what it left behind: it holds the pipe open, and nobody would see the end."""
    with suppress(ChildProcessError):
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        _kill(child)


def _folder_of(prepared: Prepared) -> str | None:
    location = prepared.session.log.location
    return location if os.path.isabs(location) else None


def _deadline(child: subprocess.Popen[bytes], timeout: float | None, too_late: threading.Event) -> threading.Timer | None:
    if timeout is None:
        return None

    def kill() -> None:
        too_late.set()
        _kill(child)

    timer = threading.Timer(timeout, kill)
    timer.daemon = True
    timer.start()
    return timer


def _converse(child: subprocess.Popen[bytes], request: bytes, prepared: Prepared, scope: CallScope) -> object:
    assert child.stdin is not None
    assert child.stdout is not None
    write_frame(cast("BinaryIO", child.stdin), request)
    while True:
        said = cast("dict[str, object]", decode(read_frame(cast("BinaryIO", child.stdout))))
        match said:
            case {"log": metadata}:
                _as_call(scope, lambda: facts.log(**cast("dict[str, object]", metadata)))
            case {"line": _, "level": _, "place": _}:
                printed.from_child(scope, said)
            case {"save": str(name), "value": value, "type": kind, "tags": tags}:
                _as_call(scope, lambda: facts.save(name, value, type=kind, tags=tags))  # type: ignore[arg-type]
            case {"usage": record}:
                _as_call(scope, lambda: usage.record_usage(cast("dict[str, object]", record)))
            case {"value": True}:
                return decode(read_frame(cast("BinaryIO", child.stdout)), prepared.checkpoint.returns)
            case {"error": error, "text": text, "trace": trace}:
                raised = error if isinstance(error, BaseException) else KitaruRuntimeError(str(text))
                raised.add_note(f"in the isolated process:\n{trace}")
                raise raised
            case _:
                raise EOFError


def _as_call(scope: CallScope, do: Callable[[], None]) -> None:
    token = current.set(scope)
    try:
        do()
    finally:
        current.reset(token)


def write_frame(pipe: BinaryIO, data: bytes) -> None:
    """Send one value's bytes."""
    pipe.write(len(data).to_bytes(_LENGTH_BYTES, "big") + data)
    pipe.flush()


def read_frame(pipe: BinaryIO) -> bytes:
    """Receive one value's bytes. Raises EOFError when the other side is gone, or talks nonsense."""
    header = pipe.read(_LENGTH_BYTES)
    length = int.from_bytes(header, "big")
    if len(header) < _LENGTH_BYTES or length > 2 * MAX_PAYLOAD_BYTES:
        raise EOFError
    data = pipe.read(length)
    if len(data) < length:
        raise EOFError
    return data
