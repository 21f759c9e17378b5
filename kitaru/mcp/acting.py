"""The tools that change something."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from kitaru.domain.errors import KitaruWaitValidationError
from kitaru.mcp import desk as at
from kitaru.mcp.child import Options, Order
from kitaru.mcp.desk import Answer, Desk, ExecId

if TYPE_CHECKING:
    from kitaru.client.models import Execution

Detach = Annotated[bool, Field(description="Leave it to a `kitaru worker` instead of a process started now.")]
Wait = Annotated[str, Field(description="The wait's name or id, as kitaru_executions_pending_waits gives it.")]


def executions_run(
    desk: Desk,
    target: Annotated[
        str, Field(description="FILE.py:flow, in a folder from which the user has run flows before or that they trusted.")
    ],
    inputs: Annotated[dict[str, object] | None, Field(description="The flow's inputs by name.")] = None,
    tags: Annotated[list[str] | None, Field(description="Tags for this execution.")] = None,
    metadata: Annotated[dict[str, object] | None, Field(description="Metadata for this execution.")] = None,
    idempotency_key: Annotated[
        str | None, Field(description="The same key, flow and inputs give the execution that exists, and start no other.")
    ] = None,
    max_cost_usd: Annotated[float | None, Field(description="It stops before the LLM call that would cost more.")] = None,
    max_tokens: Annotated[int | None, Field(description="It stops before the LLM call after so many tokens.")] = None,
    detach: Detach = False,
) -> Answer:
    """Run a flow in a process of its own and return at once; kitaru_executions_get shows how far it is."""
    options = Options(
        tags=tags, metadata=metadata, idempotency_key=idempotency_key, max_cost_usd=max_cost_usd, max_tokens=max_tokens
    )
    order = _order(desk, "run", detach=detach)
    order["target"], order["inputs"], order["options"] = target, inputs or {}, options
    return _begun(desk, order)


def executions_resume(desk: Desk, exec_id: ExecId, detach: Detach = False) -> Answer:
    """Go on with an execution that nobody runs, such as one whose wait was answered; returns at once."""
    return _begun(desk, _order(desk, "resume", exec_id, detach=detach))


def executions_retry(desk: Desk, exec_id: ExecId, detach: Detach = False) -> Answer:
    """Run a failed execution on: completed checkpoints are reused, what failed runs again; returns at once."""
    return _begun(desk, _order(desk, "retry", exec_id, detach=detach))


def executions_replay(
    desk: Desk,
    exec_id: ExecId,
    from_: Annotated[str, Field(description="Run anew from here: a checkpoint's name, invocation id or call id.")],
    inputs: Annotated[dict[str, object] | None, Field(description="Flow inputs to replace, by name.")] = None,
    overrides: Annotated[
        dict[str, object] | None, Field(description='Results to replace: {"checkpoint.NAME": VALUE}.')
    ] = None,
    detach: Detach = False,
) -> Answer:
    """Start a new execution from an old one's history, and return at once; what came before from_ is reused."""
    order = _order(desk, "replay", exec_id, detach=detach)
    order["from_"], order["inputs"], order["overrides"] = from_, inputs or {}, overrides
    return _begun(desk, order)


def executions_cancel(desk: Desk, exec_id: ExecId) -> Answer:
    """Cancel an execution: at once where no runner is alive, else at its next boundary."""
    return _seen(desk, "executions.cancel", desk.client.executions.cancel(exec_id))


def executions_input(
    desk: Desk,
    exec_id: ExecId,
    wait: Wait,
    value: Annotated[object, Field(description="The answer, as the wait's schema asks for it; null for a gate.")],
    by: Annotated[str | None, Field(description="Who answers; else the user of this server.")] = None,
) -> Answer:
    """Answer a pending wait. When its runner is gone, go on with kitaru_executions_resume."""
    executions = desk.client.executions
    try:
        return _seen(desk, "executions.input", executions.input(exec_id, wait=wait, value=value, by=by))
    except KitaruWaitValidationError as refused:
        if isinstance(value, str):  # many a caller sends JSON as text where any value may stand
            with suppress(ValueError, RecursionError, KitaruWaitValidationError):
                found = executions.input(exec_id, wait=wait, value=json.loads(value), by=by)
                return _seen(desk, "executions.input", found)
        raise refused from None


def executions_abort_wait(desk: Desk, exec_id: ExecId, wait: Wait) -> Answer:
    """Give a pending wait up: the execution is cancelled."""
    return _seen(desk, "executions.input", desk.client.executions.abort_wait(exec_id, wait=wait))


def _order(desk: Desk, verb: str, exec_id: str | None = None, *, detach: bool) -> Order:
    """An order without what only some verbs have. Raises KitaruNotFoundError."""
    order = Order(verb=verb, store=desk.client.store.location, project=desk.client.project, detach=detach)
    if exec_id is not None:
        order["exec_id"] = desk.client.executions.peek(exec_id).exec_id
    return order


def _begun(desk: Desk, order: Order) -> Answer:
    begun = desk.children.begin(order)
    found = desk.client.executions.get(begun.exec_id)
    command = "run" if order["verb"] == "run" else f"executions.{order['verb']}"
    return at.execution(command, found, output_file=begun.output_file)


def _seen(desk: Desk, command: str, changed: Execution) -> Answer:
    return at.execution(command, desk.client.executions.get(changed.exec_id))
