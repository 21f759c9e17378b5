"""Processes that tools start: each in a session of its own, with its output in a file, so that nothing it does or prints
touches the protocol. They go on when the server ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import stat
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from kitaru import python
from kitaru.domain import errors
from kitaru.domain.errors import KitaruError, KitaruRuntimeError

if TYPE_CHECKING:
    from kitaru.mcp.child import Answer, Order

START_SECONDS = 60.0
"""How long a flow's file may take to load before its process is given up."""
KEEP_DAYS = 7
"""How long the output of a process is kept after it was last written to."""
_TAIL_CHARS = 1_000
_PREFIX = "kitaru-mcp-"
_CHUNK = 65_536


class Begun(NamedTuple):
    """An execution that a process has begun, and the file of what that process prints."""

    exec_id: str
    output_file: str


class Children:
    """The processes of one server."""

    def __init__(self, start_seconds: float = START_SECONDS) -> None:
        self._start_seconds = start_seconds
        self._folder: Path | None = None

    def begin(self, order: Order) -> Begun:
        """Start a process for the order and wait until the execution has begun.

        Raises what kept it from beginning, and KitaruRuntimeError when the process died or took too long.
        """
        _forget_old()
        ours, theirs = os.pipe()
        file, path = tempfile.mkstemp(".log", f"{order['verb']}-", self._outputs())
        try:
            child = subprocess.Popen(
                python.command("kitaru.mcp.child", str(theirs)),
                stdin=subprocess.PIPE, stdout=file, stderr=file, pass_fds=(theirs,), start_new_session=True,
                env=python.environment(),
            )  # fmt: skip
        finally:
            os.close(theirs)
            os.close(file)
        threading.Thread(target=child.wait, name=f"kitaru-child-{child.pid}", daemon=True).start()  # else it stays a zombie
        try:
            assert child.stdin is not None
            with contextlib.suppress(BrokenPipeError), child.stdin:
                child.stdin.write(json.dumps(order).encode())
            said = _read(ours, time.monotonic() + self._start_seconds)
        finally:
            os.close(ours)
        if said is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            raise KitaruRuntimeError(
                f"the flow had not begun after {self._start_seconds:g} s, so its process was ended: what does its file do "
                f"when it is loaded? {_tail(path)}",
                code="not-started",
            )
        if not said:
            raise KitaruRuntimeError(
                f"the process ended (exit code {child.wait()}) before the flow had begun. {_tail(path)}", code="not-started"
            )
        return Begun(_exec_id(cast("Answer", json.loads(said))), path)

    def _outputs(self) -> Path:
        """The folder of this server's files, its time set to now: other servers leave it alone."""
        if self._folder is not None:
            with contextlib.suppress(FileNotFoundError):
                os.utime(self._folder)
                return self._folder
        self._folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        return self._folder


def _forget_old() -> None:
    """Remove what processes of this user's servers, this one or any before, have last written long ago."""
    before = time.time() - KEEP_DAYS * 86_400
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # somebody else removes them too, or a file came
            found = folder.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
                continue
            for file in folder.glob("*.log"):
                if file.lstat().st_mtime < before:
                    file.unlink()
            if found.st_mtime < before:
                folder.rmdir()


def _read(pipe: int, deadline: float) -> bytes | None:
    """What the other side says until it closes; None when that takes too long."""
    said = b""
    while True:
        ready, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return None
        more = os.read(pipe, _CHUNK)
        if not more:
            return said
        said += more


def _tail(path: str) -> str:
    text = Path(path).read_text(encoding="utf-8", errors="replace")
    shown = text[-_TAIL_CHARS:].strip()
    return f"The end of its output ({path}): {shown}" if shown else f"It printed nothing ({path})"


def _exec_id(answer: Answer) -> str:
    if "exec_id" in answer:
        return answer["exec_id"]
    kind: object = getattr(errors, answer.get("type", ""), None)
    known = kind if isinstance(kind, type) and issubclass(kind, KitaruError) else KitaruRuntimeError
    raise known(answer.get("message", ""), code=answer.get("code"))
