"""From what code writes in a scope to log lines: put together, held to limits, and none twice.

A text stream is written in pieces; a line is kept once it ends, or with its attempt. A flow's body runs again from the top:
what its earlier runs printed is not kept again (docs/decisions/0020).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, cast

from kitaru.domain.errors import KitaruBackendError
from kitaru.domain.limits import MAX_LOG_LINE_BYTES, MAX_LOG_LINES
from kitaru.runtime.scope import CallScope, FlowScope, RemoteScope, current
from kitaru.runtime.session import Session
from kitaru.store.lines import LogLine, repeated_of

STEP, RUNNER = "step", "runner"


class Place(NamedTuple):
    """Where something was written from."""

    module: str | None = None
    filename: str | None = None
    lineno: int | None = None


class _Part:
    """A line that has not ended, and how many of its bytes are past the limit."""

    __slots__ = ("cut", "level", "place", "text")

    def __init__(self, level: str, place: Place) -> None:
        self.text = ""
        self.cut = 0
        self.level = level
        self.place = place


Keep = Callable[[str, str, Place], None]
"""Takes a whole line: level, message, place."""


class Printed:
    """What one attempt, or one task of a flow's body, has written."""

    __slots__ = ("_dropped", "_keep", "_kept", "_parts")

    def __init__(self, keep: Keep) -> None:
        self._keep = keep
        self._kept = 0
        self._dropped = 0
        self._parts: dict[tuple[str, int], _Part] = {}

    def write(self, stream: str, level: str, text: str, place: Place) -> None:
        """Take a piece of a stream's text. Threads that share the scope have a line each."""
        key = (stream, threading.get_ident())
        part = self._parts.pop(key, None)
        start = 0
        while (end := text.find("\n", start)) >= 0:
            if self._dropped:  # nothing more is kept: the lines are counted, not cut out
                self._dropped += text.count("\n", start)
                part, start = None, text.rindex("\n") + 1
                break
            part = part or _Part(level, place)
            _extend(part, text[start:end])
            self._end(part)
            part, start = None, end + 1
        if start < len(text):
            part = part or _Part(level, place)
            _extend(part, text[start:])
        if part is not None:
            self._parts[key] = part

    def goes_on(self, stream: str, text: str) -> bool:
        """Take a piece that goes on with a line, or ends it; False, and nothing is taken, when it is not as simple."""
        key = (stream, threading.get_ident())
        part = self._parts.get(key)
        if part is None or "\r" in text:
            return False
        if text == "\n":
            del self._parts[key]
            self._end(part)
        elif "\n" in text:
            return False
        else:
            _extend(part, text)
        return True

    def add(self, level: str, message: str, place: Place) -> None:
        """Take a whole message."""
        if self._kept < MAX_LOG_LINES:
            self._kept += 1
            self._keep(level, _limited(message), place)
        else:
            self._dropped += 1

    def end(self) -> None:
        """The attempt has ended: what was not ended is a line, and what was too much is told once."""
        for key in list(self._parts):
            part = self._parts.pop(key, None)
            if part is not None and part.text:
                self._end(part)
        if self._dropped:
            self._keep("WARNING", f"… {self._dropped} lines dropped", Place())
            self._dropped = 0

    def _end(self, part: _Part) -> None:
        message = _after_return(part.text.removesuffix("\r"))
        if part.cut:
            message += f"… ({part.cut} bytes cut)"
        self.add(part.level, message, part.place)


def _extend(part: _Part, text: str) -> None:
    """A carriage return goes back to the beginning of the line: of a progress bar the last state counts."""
    if "\r" in text:
        whole = part.text + text
        last = _after_return(whole.removesuffix("\r"))
        part.text, part.cut = last + "\r" * whole.endswith("\r"), 0
    elif part.text.endswith("\r") and text:
        part.text = text
    else:
        part.text += text
    if len(part.text) > MAX_LOG_LINE_BYTES:  # at least as many bytes as characters
        kept = part.text[:MAX_LOG_LINE_BYTES]
        part.cut += len(part.text[MAX_LOG_LINE_BYTES:].encode("utf-8", "backslashreplace"))
        part.text = kept


def _after_return(text: str) -> str:
    return text.rpartition("\r")[2]


def _limited(message: str) -> str:
    """Text that the store takes: of bounded size, and no lone surrogates."""
    data = message[: MAX_LOG_LINE_BYTES + 1].encode("utf-8", "backslashreplace")
    if len(data) <= MAX_LOG_LINE_BYTES + 32 and len(message) <= MAX_LOG_LINE_BYTES + 32:
        return message.encode("utf-8", "backslashreplace").decode()
    cut = len(message.encode("utf-8", "backslashreplace")) - MAX_LOG_LINE_BYTES
    return data[:MAX_LOG_LINE_BYTES].decode("utf-8", "ignore") + f"… ({cut} bytes cut)"


# --- where lines go ----------------------------------------------------------------------------------------------------


def printed_here() -> Printed | None:
    """What the present scope has written; None outside an execution."""
    scope = current.get()
    if scope is None:
        return None
    printed = scope.printed
    if printed is None:
        keep = (
            _to_runner(scope)
            if isinstance(scope, RemoteScope)
            else _of_call(scope)
            if isinstance(scope, CallScope)
            else _of_body(scope)
        )
        printed = scope.printed = Printed(keep)
    return printed


def session_here() -> Session | None:
    """The session of the present scope, in the runner's own process."""
    scope = current.get()
    return scope.session if isinstance(scope, (FlowScope, CallScope)) else None


def say(session: Session, level: str, message: str, place: Place) -> None:
    """A word of the runtime's own about an execution."""
    session.log.lines.add(LogLine(session.number, session.clock.now(), RUNNER, level, _limited(message), *place))


def from_child(scope: CallScope, said: dict[str, object]) -> None:
    """A line of an isolated attempt, which has held it to the limits."""
    place = Place(*cast("list[None]", said["place"]))
    _of_call(scope)(str(said["level"]), str(said["line"]), place)


def _of_call(scope: CallScope) -> Keep:
    session = scope.session
    add, now, number = session.log.lines.add, session.clock.now, session.number
    where = (scope.name, scope.invocation_id, scope.call, scope.attempt)

    def keep(level: str, message: str, place: Place) -> None:
        add(LogLine(number, now(), STEP, level, message, *place, *where))

    return keep


def _to_runner(scope: RemoteScope) -> Keep:
    def keep(level: str, message: str, place: Place) -> None:
        scope.send({"line": message, "level": level, "place": list(place)})

    return keep


def _of_body(scope: FlowScope) -> Keep:
    session, path = scope.session, scope.path
    add, now, number = session.log.lines.add, session.clock.now, session.number
    recorded = _recorded_lines(session).get(path, 0) if session.repeats else 0
    ordinal = 0

    def keep(level: str, message: str, place: Place) -> None:
        nonlocal ordinal
        ordinal += 1
        if ordinal <= recorded and not scope.is_past_record:
            return
        add(LogLine(number, now(), STEP, level, message, *place, path=path, ordinal=ordinal))

    return keep


def _recorded_lines(session: Session) -> dict[str, int]:
    """How many lines of each task of the body the earlier runs have kept."""
    if session.body_lines is None:
        session.body_lines = {}
        session.log.lines.flush()  # an earlier run of this process may have left some
        with suppress(KitaruBackendError):
            session.body_lines = repeated_of(session.log, session.number)
    return session.body_lines
