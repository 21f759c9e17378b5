"""What a process that a tool starts does: it begins one execution, says its id on a pipe, and stays until it has left.

The order comes as JSON on stdin: inputs may be larger than a command line. Only trusted folders are loaded from: a tool's
arguments come from a model, and a person who runs a file trusts its folder, which a model must not do.
"""

from __future__ import annotations

import json
import os
import sys
from typing import NotRequired, TypedDict, cast

from kitaru.domain.errors import KitaruBackendError, KitaruError
from kitaru.settings import StoreChoice


class Options(TypedDict, total=False):
    """What `Flow.options` takes."""

    tags: list[str] | None
    metadata: dict[str, object] | None
    idempotency_key: str | None
    max_cost_usd: float | None
    max_tokens: int | None


class Order(TypedDict):
    """What to begin. `exec_id` is of the execution to go on with, `target` names the flow of a run."""

    verb: str
    store: str
    project: str
    detach: bool
    exec_id: NotRequired[str]
    target: NotRequired[str]
    inputs: NotRequired[dict[str, object]]
    options: NotRequired[Options]
    from_: NotRequired[str]
    overrides: NotRequired[dict[str, object] | None]


class Answer(TypedDict, total=False):
    """What came of it: the id, or the error."""

    exec_id: str
    type: str
    code: str
    message: str


def main(pipe: int) -> int:
    """Carry one order out."""
    os.set_inheritable(pipe, False)
    order = cast("Order", json.loads(sys.stdin.buffer.read()))
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    try:
        answer = Answer(exec_id=_begin(order))
    except KitaruError as error:
        answer = Answer(type=type(error).__name__, code=error.code, message=error.message)
    except OSError as error:
        said = f"{error.strerror or error} ({error.filename})" if error.filename is not None else str(error)
        answer = Answer(type=KitaruBackendError.__name__, code="operating-system", message=said)
    with open(pipe, "w", encoding="utf-8", errors="backslashreplace") as file:
        json.dump(answer, file)
    return 0 if "exec_id" in answer else 1


def _begin(order: Order) -> str:
    """Set the execution going in this process, or leave it to a worker; its id."""
    from kitaru import compose
    from kitaru.settings import configure

    configure(store=order["store"], project=order["project"])
    choice = StoreChoice(order["store"], "of the server")
    exec_id, detach, inputs = order.get("exec_id", ""), order["detach"], order.get("inputs", {})
    if order["verb"] == "run":
        return _run(choice, order.get("target", ""), inputs, order.get("options", {}), detach=detach)
    if order["verb"] == "replay":
        return compose.replay(choice, exec_id, order.get("from_", ""), order.get("overrides"), inputs, detach=detach).exec_id
    begin = compose.resume if order["verb"] == "resume" else compose.retry
    begin(choice, exec_id, detach=detach)
    return exec_id


def _run(choice: StoreChoice, target: str, inputs: dict[str, object], options: Options, *, detach: bool) -> str:
    from kitaru import compose
    from kitaru.runtime.code import load_trusted

    flow = load_trusted(target, compose.open_log(choice).store_id)
    return flow.options(**options).run(**inputs, **({"stack": "worker"} if detach else {})).exec_id


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
