"""Taking along what executions print and log, while it goes where it went before.

`sys.stdout` and `sys.stderr` are replaced by tees while an execution lives in this process; what is written outside of one
passes through. Records of `logging` come by a logger above the root: the user's own handlers, levels and `basicConfig` find
everything as they would without it (docs/decisions/0020).
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from types import FrameType
from typing import Any, TextIO, TypeVarTuple, cast

from kitaru.runtime import printed, terminal
from kitaru.runtime.printed import Place
from kitaru.runtime.scope import current

_STREAMS = {"stdout": "INFO", "stderr": "ERROR"}
_HANDLE = logging.Handler.handle.__code__
_MOST_FRAMES = 40
_OWN = "kitaru"
_plain = logging.Formatter("%(message)s")
_busy = threading.local()
_lock = threading.Lock()
_live = 0
Taken = TypeVarTuple("Taken")


def enter() -> None:
    """An execution begins to live in this process: take along what it prints and logs."""
    global _live
    with _lock:
        _live += 1
        for name in _STREAMS:
            stream = getattr(sys, name)
            if stream is not None and type(stream) is not Tee:
                setattr(sys, name, Tee(name, stream))
        if logging.root.parent is None:
            logging.root.parent = _above_root()


def leave() -> None:
    """An execution has left; after the last of them the streams are what they were."""
    global _live
    with _lock:
        _live -= 1
        if _live > 0:
            return
        for name in _STREAMS:
            stream: object = getattr(sys, name)
            if type(stream) is Tee:
                setattr(sys, name, plain(cast("TextIO", stream)))
        if isinstance(logging.root.parent, _AboveRoot):
            logging.root.parent = None


def plain(stream: TextIO) -> TextIO:
    """The stream itself, for what the runtime writes in the midst of a user's code."""
    return cast("TextIO", object.__getattribute__(stream, "_stream")) if type(cast("object", stream)) is Tee else stream


def _after_fork_in_child() -> None:
    """Nothing lives in a forked child; what it prints goes past its parent's store, which is closed to it."""
    global _live, _lock
    _lock = threading.Lock()
    _live = 0


os.register_at_fork(after_in_child=_after_fork_in_child)


class Tee:
    """A text stream that shows what an execution writes to it; in all else it is the stream behind it."""

    def __init__(self, name: str, stream: TextIO) -> None:
        object.__setattr__(self, "_name", name)
        object.__setattr__(self, "_stream", stream)

    def write(self, text: str) -> int:
        """Write, as before; then take it along."""
        if terminal.is_shared():
            with terminal.writing(self._name, text):
                count = self._stream.write(text)
        else:
            count = self._stream.write(text)
        if current.get() is not None:
            _quietly(_take, self._name, text)
        return count

    def writelines(self, lines: Iterable[str]) -> None:
        """Write, as before; then take it along."""
        for line in lines:
            self.write(line)

    @property
    def buffer(self) -> BinaryTee:
        """The bytes below."""
        return BinaryTee(self._name, self._stream.buffer)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  (whatever the stream has)
        return getattr(object.__getattribute__(self, "_stream"), name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._stream, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._stream, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._stream)

    def __enter__(self) -> Tee:
        self._stream.__enter__()
        return self

    def __exit__(self, *failure: object) -> None:
        self._stream.__exit__(*cast("tuple[None, None, None]", failure))

    def __repr__(self) -> str:
        return repr(self._stream)


class BinaryTee:
    """The same for a stream of bytes."""

    def __init__(self, name: str, stream: Any) -> None:  # noqa: ANN401
        self._name = name
        self._stream = stream

    def write(self, data: bytes) -> int:
        """Write, as before; then take it along."""
        text = bytes(data).decode("utf-8", "backslashreplace")
        with terminal.writing(self._name, text):
            count = self._stream.write(data)
        if current.get() is not None:
            _quietly(_take, self._name, text)
        return count

    def writelines(self, lines: Iterable[bytes]) -> None:
        """Write, as before; then take it along."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._stream, name)

    def __enter__(self) -> BinaryTee:
        self._stream.__enter__()
        return self

    def __exit__(self, *failure: object) -> None:
        self._stream.__exit__(*failure)

    def __repr__(self) -> str:
        return repr(self._stream)


def _take(name: str, text: str) -> None:
    """Take a piece of text along, unless it is a record that comes by itself. `print` makes four of two words: for those
    that go on with a line nobody looks up who writes.
    """
    here = printed.printed_here()
    if here is None or here.goes_on(name, text):
        return
    record, frame = _origin(_writer())
    if record is not None and _reaches_us(record):
        return
    if record is None:
        here.write(name, _STREAMS[name], text, _place_of(frame))
    else:
        here.write(name, record.levelname, text, _place_in(record))


def _quietly(take: Callable[[*Taken], None], *taken: *Taken) -> None:
    """Whatever is wrong with telemetry, the code that printed goes on. What is printed in the midst of this is not taken."""
    if getattr(_busy, "is_taking", False):
        return
    _busy.is_taking = True
    try:
        take(*taken)
    except Exception:
        pass
    finally:
        _busy.is_taking = False


def _writer() -> FrameType | None:
    """Who wrote to a tee."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    while frame is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    return frame


def _origin(frame: FrameType | None) -> tuple[logging.LogRecord | None, FrameType | None]:
    """The record that a handler of `logging` is just writing, if one is; and who writes."""
    first = frame
    for _ in range(_MOST_FRAMES):
        if frame is None:
            break
        if frame.f_code is _HANDLE:
            record = frame.f_locals.get("record")
            return (record if isinstance(record, logging.LogRecord) else None), first
        frame = frame.f_back
    return None, first


def _place_of(frame: FrameType | None) -> Place:
    if frame is None:
        return Place()
    module, filename = _named(frame.f_code.co_filename)
    return Place(module, filename, frame.f_lineno)


@lru_cache(1_000)
def _named(path: str) -> tuple[str, str]:
    """A file's module and name."""
    filename = os.path.basename(path)
    return filename.rpartition(".")[0] or filename, filename


def _place_in(record: logging.LogRecord) -> Place:
    return Place(str(record.module), str(record.filename), record.lineno if isinstance(record.lineno, int) else None)  # pyright: ignore[reportUnnecessaryIsInstance]


# --- logging -----------------------------------------------------------------------------------------------------------


class _AboveRoot(logging.Logger):
    """Where records end that come past the root logger. The root itself is not touched: with a handler of ours on it
    `basicConfig` would do nothing, and `dictConfig` would take it away.
    """


class _Unseen(list[logging.Handler]):
    """Handlers that are called, and that `hasHandlers` does not count."""

    def __bool__(self) -> bool:
        return False


class _Capture(logging.Handler):
    """Takes records along. Without a lock: it calls nothing but the lines' own deque."""

    def handle(self, record: logging.LogRecord) -> bool:
        """Take the record along, and do what `logging` does where nobody else handles it."""
        if current.get() is not None or hasattr(record, "kitaru_session"):
            _quietly(_record, record)
        last = logging.lastResort
        if last is not None and record.levelno >= last.level and not _is_handled(record):
            last.handle(record)
        return True


def _record(record: logging.LogRecord) -> None:
    try:
        message = _plain.format(record)
    except Exception:  # its own handlers say so
        message = str(record.msg)
    if record.name == _OWN:
        session = getattr(record, "kitaru_session", None) or printed.session_here()
        if session is not None:
            printed.say(session, record.levelname, message, _place_in(record))
        return
    here = printed.printed_here()
    if here is not None:
        here.add(record.levelname, message, _place_in(record))


def _above_root() -> _AboveRoot:
    above = _AboveRoot("kitaru above root")
    above.handlers = _Unseen([_Capture()])
    return above


def _chain(record: logging.LogRecord) -> Iterator[logging.Logger]:
    """The loggers that a record passes."""
    logger: logging.Logger | None = logging.root if record.name in (None, "root") else logging.getLogger(record.name)
    while logger is not None:
        yield logger
        logger = logger.parent if logger.propagate else None


def _reaches_us(record: logging.LogRecord) -> bool:
    return any(isinstance(logger, _AboveRoot) for logger in _chain(record))


def _is_handled(record: logging.LogRecord) -> bool:
    return any(logger.handlers for logger in _chain(record) if not isinstance(logger, _AboveRoot))
