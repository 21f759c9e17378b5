"""`python -m kitaru.runtime.isolated`: the child's side of an isolated checkpoint. See `isolation` for the protocol."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import os
import sys
import threading
import traceback
from collections.abc import Coroutine
from contextlib import suppress
from types import ModuleType
from typing import BinaryIO, cast

from kitaru.domain.errors import KitaruRuntimeError
from kitaru.domain.usage import Totals
from kitaru.runtime import capture, code
from kitaru.runtime.budget import Budget
from kitaru.runtime.checkpoint import Checkpoint
from kitaru.runtime.isolation import read_frame, write_frame
from kitaru.runtime.scope import RemoteScope, current
from kitaru.runtime.session import encode_payload
from kitaru.settings import configure
from kitaru.store.values import ValueNotEncodable, bare_exception, decode, encode

_PART_BYTES = 2048


def main() -> None:
    """Serve one request on the standard streams; what the body prints goes to standard error."""
    requests = cast("BinaryIO", os.fdopen(os.dup(0), "rb"))
    answers = cast("BinaryIO", os.fdopen(os.dup(1), "wb"))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    raw = read_frame(requests)
    threading.Thread(target=_die_with_the_parent, args=(requests.fileno(),), daemon=True).start()
    frames = answer_frames(raw, answers)
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # the body may have closed it
            stream.flush()  # before the answer: once that is read, this process is ended
    for frame in frames:
        write_frame(answers, frame)


def _die_with_the_parent(requests: int) -> None:
    """The parent says nothing more: an end of the pipe is its end, and what runs on would run twice after a recovery."""
    os.read(requests, 1)
    os._exit(1)


def answer_frames(raw: bytes, answers: BinaryIO) -> list[bytes]:
    """Run the body that a request asks for, and encode its value or its exception."""
    try:
        # Twice: the arguments' classes are only known once the function's module is loaded.
        where = cast("dict[str, object]", decode(raw))
        checkpoint = _load(where)
        request = cast("dict[str, object]", decode(raw))
        scope = RemoteScope(
            str(request["exec_id"]),
            str(request["invocation_id"]),
            str(request["name"]),
            lambda said: write_frame(answers, encode(said)),
        )
        cost, tokens, totals = cast("tuple[float | None, int | None, list[int]]", request["budget"])
        scope.budget = Budget(cost, tokens, Totals(*totals))
        current.set(scope)
        capture.enter()
        args, kwargs = cast("list[object]", request["args"]), cast("dict[str, object]", request["kwargs"])
        value: object = checkpoint.fn(*args, **kwargs)
        if checkpoint.is_async:
            value = asyncio.run(cast("Coroutine[object, object, object]", value))
        _end_lines()
        data = encode_payload(value, f"what {request['name']} returned")[0].data
        return [encode({"value": True}), data or b""]
    except BaseException as error:
        _end_lines()
        trace = "".join(traceback.format_exception(error))
        text = f"{type(error).__name__}: {error}"
        for kept in (error, bare_exception(error, _PART_BYTES), None):
            with suppress(ValueNotEncodable):
                return [encode({"error": kept, "text": text, "trace": trace})]
        raise


def _end_lines() -> None:
    scope = current.get()
    if scope is not None and scope.printed is not None:
        scope.printed.end()


def _load(request: dict[str, object]) -> Checkpoint[..., object]:
    for entry in reversed(cast("list[str]", request["path"])):
        if entry not in sys.path:
            sys.path.insert(0, entry)
    configure(store=cast("str | None", request["store"]), project=cast("str | None", request["project"]))
    file = str(request["file"])
    module = _module(file, str(request["module"]))
    found: object = module
    for part in str(request["qualname"]).split("."):
        found = getattr(found, part, None)
    if not isinstance(found, Checkpoint):
        raise KitaruRuntimeError(f"{file} defines no checkpoint {request['qualname']!r} at its top level")
    return cast("Checkpoint[..., object]", found)


def _module(file: str, name: str) -> ModuleType:
    """The module under the name that the parent has it by, which its values' classes are recorded with."""
    with suppress(ImportError, ValueError):
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None and os.path.realpath(spec.origin) == file:
            return importlib.import_module(name)
    return code.load_file(file)


if __name__ == "__main__":
    main()
