"""`python -m kitaru.runtime.isolated`: the child's side of an isolated checkpoint. See `isolation` for the protocol."""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
import traceback
from collections.abc import Coroutine
from typing import BinaryIO, cast

from kitaru.domain.errors import KitaruRuntimeError
from kitaru.runtime import code
from kitaru.runtime.checkpoint import Checkpoint
from kitaru.runtime.isolation import read_frame, write_frame
from kitaru.runtime.scope import RemoteScope, current
from kitaru.store.values import ValueNotEncodable, decode, encode


def main() -> None:
    """Serve one request on the standard streams; what the body prints goes to standard error."""
    requests = cast("BinaryIO", os.fdopen(os.dup(0), "rb"))
    answers = cast("BinaryIO", os.fdopen(os.dup(1), "wb"))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    write_frame(answers, encode_answer(requests, answers))


def encode_answer(requests: BinaryIO, answers: BinaryIO) -> bytes:
    """Read the request, run the body, and encode its value or its exception."""
    raw = read_frame(requests)
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
        current.set(scope)
        args, kwargs = cast("list[object]", request["args"]), cast("dict[str, object]", request["kwargs"])
        value: object = checkpoint.fn(*args, **kwargs)
        if checkpoint.is_async:
            value = asyncio.run(cast("Coroutine[object, object, object]", value))
        return encode({"value": value})
    except BaseException as error:
        trace = "".join(traceback.format_exception(error))
        text = f"{type(error).__name__}: {error}"
        try:
            return encode({"error": error, "text": text, "trace": trace})
        except ValueNotEncodable:
            return encode({"error": None, "text": text, "trace": trace})


def _load(request: dict[str, object]) -> Checkpoint[..., object]:
    for entry in reversed(cast("list[str]", request["path"])):
        if entry not in sys.path:
            sys.path.insert(0, entry)
    file, module_name = str(request["file"]), str(request["module"])
    module = code.load_file(file)
    if module.__name__ != module_name and module_name in sys.modules:
        module = importlib.import_module(module_name)
    found: object = module
    for part in str(request["qualname"]).split("."):
        found = getattr(found, part, None)
    if not isinstance(found, Checkpoint):
        raise KitaruRuntimeError(f"{file} defines no checkpoint {request['qualname']!r} at its top level")
    return cast("Checkpoint[..., object]", found)


if __name__ == "__main__":
    main()
