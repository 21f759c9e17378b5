"""The tools that only read."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from pydantic import Field

from kitaru.mcp import desk as at
from kitaru.mcp.cutting import MAX_CHARS, slice_of, whole
from kitaru.mcp.desk import Answer, Desk, ExecId, MaxChars, Page, Size

Flow = Annotated[str | None, Field(description="Only this flow: name or id.")]
Status = Annotated[
    str | list[str] | None, Field(description="Only this status or these: running, waiting, completed, failed, cancelled.")
]
Stack = Annotated[str | None, Field(description="Only this stack: name or id.")]
Tags = Annotated[list[str] | None, Field(description="Only with all of these tags.")]
Since = Annotated[str | None, Field(description="Started from then on: ISO time (UTC), or an age such as 7d or 12h.")]
Until = Annotated[str | None, Field(description="Started before: ISO time (UTC), or an age such as 7d or 12h.")]
Where = Annotated[
    dict[str, object] | None,
    Field(description='Metadata: {"customer_tier": "enterprise"}, or {"score": {">=": 3}} with = != > >= < <=.'),
]


def executions_list(
    desk: Desk,
    flow: Flow = None,
    status: Status = None,
    stack: Stack = None,
    tags: Tags = None,
    since: Since = None,
    until: Until = None,
    where: Where = None,
    page: Page = 1,
    size: Size = 20,
    max_chars: MaxChars = MAX_CHARS,
) -> Answer:
    """List executions, newest first, without their calls and values."""

    def found(page: int, size: int) -> list[dict[str, object]]:
        listed = desk.client.executions.list(
            flow, status=status, stack=stack, tags=tags, since=since, until=until, where=where, page=page, size=size
        )
        return [at.plain(each) for each in listed]

    items = found(page, size)
    is_more = len(items) == size and bool(found(page * size + 1, 1))
    return at.many("executions.list", items, page + 1 if is_more else None, max_chars)


def executions_get(
    desk: Desk,
    exec_id: ExecId,
    version: Annotated[int | None, Field(description="As it was after that many events.")] = None,
    page: Page = 1,
    size: Size = 50,
    max_chars: MaxChars = MAX_CHARS,
) -> Answer:
    """Show one execution in full: status, failure, waits, metadata, checkpoint calls with attempts, artifacts.

    Calls, artifacts and waits come in pages; the counts are of all.
    """
    return at.execution("executions.get", desk.client.executions.get(exec_id, version), page, size, max_chars)


def executions_latest(
    desk: Desk,
    flow: Flow = None,
    status: Status = None,
    stack: Stack = None,
    page: Page = 1,
    size: Size = 50,
    max_chars: MaxChars = MAX_CHARS,
) -> Answer:
    """Show the newest execution that matches, in full."""
    found = desk.client.executions.latest(flow, status=status, stack=stack)
    return at.execution("executions.latest", found, page, size, max_chars)


def executions_pending_waits(
    desk: Desk,
    exec_id: Annotated[str | None, Field(description="Only of this execution; without it, of all in the project.")] = None,
    page: Page = 1,
    size: Size = 20,
    max_chars: MaxChars = MAX_CHARS,
) -> Answer:
    """List what waits for input: the question, and the JSON schema of the answer."""
    found = desk.client.executions.pending_waits(exec_id)
    return at.paged("executions.waits", [at.plain(wait) for wait in found], page, size, max_chars)


def execution_logs(
    desk: Desk,
    exec_id: ExecId,
    checkpoint: Annotated[
        str | None, Field(description="Only of this checkpoint: its name, invocation id or call id.")
    ] = None,
    source: Annotated[
        str, Field(description="step: what its code printed and logged; runner: the runtime's words.")
    ] = "step",
    page: Annotated[int, Field(ge=1, le=1_000_000, description="1 has the newest lines, the next ones older ones.")] = 1,
    size: Annotated[int, Field(ge=1, le=1_000, description="Lines on a page.")] = 100,
    max_chars: MaxChars = MAX_CHARS,
) -> Answer:
    """Show what an execution printed and logged: the newest lines, oldest first."""
    last = page * size
    found = desk.client.executions.logs(exec_id, checkpoint=checkpoint, source=source, limit=last + 1)
    start, end = max(0, len(found) - last), max(0, len(found) - last + size)
    items = [at.plain(entry) for entry in found[start:end]]
    return at.many("executions.logs", items, page + 1 if len(found) > last else None, max_chars)


def artifacts_list(
    desk: Desk,
    exec_id: ExecId,
    kind: Annotated[str | None, Field(description="prompt, response, context, input, output or blob.")] = None,
    name: Annotated[str | None, Field(description="Only with this name.")] = None,
    producing_call: Annotated[
        str | None, Field(description="Only from this checkpoint call: its id or invocation id.")
    ] = None,
    page: Page = 1,
    size: Size = 50,
    max_chars: MaxChars = MAX_CHARS,
) -> Answer:
    """List the values that an execution recorded, oldest first, without the values themselves."""
    found = desk.client.artifacts.list(exec_id, kind=kind, name=name, producing_call=producing_call)
    return at.paged("artifacts.list", [at.plain(each) for each in found], page, size, max_chars)


def artifacts_get(
    desk: Desk,
    artifact_id: Annotated[str, Field(description="An artifact's id, as kitaru_artifacts_list gives it.")],
    offset: Annotated[int, Field(ge=0, description="Where the part of a long value begins, in characters.")] = 0,
    max_chars: Annotated[int, Field(ge=1, le=1_000_000, description="The most characters of the value to give.")] = 20_000,
) -> Answer:
    """Show one recorded value: whole as `value`; one longer than max_chars in parts, as `value_text`."""
    found = desk.client.artifacts.get(artifact_id)
    value = desk.client.artifacts.show(found.artifact_id)
    part = slice_of(value, offset, max_chars)
    is_whole = offset == 0 and part.next_offset is None
    return at.one(
        "artifacts.get",
        at.plain(found),
        value=whole(value) if is_whole else None,
        value_text=None if is_whole else part.text,
        total_chars=part.total_chars,
        next_offset=part.next_offset,
    )


def status(desk: Desk) -> Answer:
    """Show which store is used, why, and how many executions of each status it holds."""
    from kitaru import __version__
    from kitaru.settings import config_dir

    return at.one("status", {**at.plain(desk.client.info()), "version": __version__, "config": str(config_dir())})


def stacks_list(desk: Desk) -> Answer:
    """List the stacks: where flows can run."""
    from kitaru.stacks import list_stacks

    return at.many("stack.list", [asdict(stack) for stack in list_stacks()], None)
