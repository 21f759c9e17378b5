"""The tools by name: the function behind each, what it may do, and the schemas of what it takes and gives."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cached_property
from typing import Any, Literal, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from kitaru.client.models import ArtifactRef, Execution, LogEntry, PendingWait, StoreInfo
from kitaru.client.statistics import ExecutionStatistics, LLMUsageStatistics
from kitaru.domain.errors import KitaruUsageError
from kitaru.mcp import acting, counting, reading
from kitaru.mcp.desk import Answer, Desk

_CLOSED = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
_SHOWN_ERRORS = 5


class _Status(StoreInfo):
    """The store, with what `kitaru status` adds."""

    version: str
    config: str


class _Stack(BaseModel):
    """A place where flows run."""

    stack_id: str
    name: str
    description: str
    is_active: bool


class Tool:
    """One tool. `reads`: it changes nothing; `destroys`: what it does cannot be taken back; `repeats`: again is the same."""

    def __init__(
        self,
        name: str,
        fn: Callable[..., Answer],
        command: str,
        gives: dict[str, object],
        *,
        reads: bool = True,
        destroys: bool = False,
        repeats: bool = False,
    ) -> None:
        self.name = name
        self.fn = fn
        self.reads, self.destroys, self.repeats = reads, destroys, repeats
        self._command = command
        self._gives = gives

    @property
    def title(self) -> str:
        """The name for people."""
        return self.name.removeprefix("kitaru_").replace("_", " ").capitalize()

    @property
    def description(self) -> str:
        """What it does, whole."""
        return inspect.cleandoc(self.fn.__doc__ or "")

    @cached_property
    def _takes(self) -> type[BaseModel]:
        hints = get_type_hints(self.fn, include_extras=True)
        fields: dict[str, Any] = {
            each.name: (hints[each.name], ... if each.default is each.empty else each.default)
            for each in inspect.signature(self.fn).parameters.values()
            if each.name != "desk"
        }
        return create_model(self.name, __config__=_CLOSED, **fields)

    @cached_property
    def input_schema(self) -> dict[str, Any]:
        """The JSON schema of the arguments."""
        return self._takes.model_json_schema()

    @cached_property
    def output_schema(self) -> dict[str, Any]:
        """The JSON schema of the answer."""
        fields: dict[str, Any] = {"command": (Literal[self._command], ...)}
        fields |= {name: (kind, ...) for name, kind in self._gives.items()}
        model = create_model(f"{self.name}_answer", __config__=_CLOSED, **fields, truncated=(list[str], ...))
        return model.model_json_schema(by_alias=True, mode="serialization")

    def call(self, desk: Desk, arguments: dict[str, Any]) -> Answer:
        """Check the arguments and answer. Raises KitaruUsageError for those, and whatever the client raises."""
        try:
            taken = self._takes.model_validate(arguments)
        except ValidationError as wrong:
            raise KitaruUsageError(f"{self.name}: {_told(wrong, list(self._takes.model_fields))}") from None
        return self.fn(desk, **{name: getattr(taken, name) for name in type(taken).model_fields})


def _told(wrong: ValidationError, known: list[str]) -> str:
    """What is wrong with arguments, each by its place, without repeating what was given."""
    found = wrong.errors(include_url=False, include_input=False, include_context=False)
    takes = f"there is no such argument; it takes {', '.join(known) or 'none'}"
    told = [
        f"{'.'.join(str(part)[:40] for part in each['loc']) or 'arguments'}: "
        f"{takes if each['type'] == 'extra_forbidden' and len(each['loc']) == 1 else each['msg']}"
        for each in found
    ]
    return "; ".join(told[:_SHOWN_ERRORS]) + ("; …" if len(told) > _SHOWN_ERRORS else "")


_ONE: dict[str, object] = {"item": Execution, "next_page": int | None}
_BEGUN: dict[str, object] = {**_ONE, "output_file": str}


def _page(kind: object) -> dict[str, object]:
    return {"items": list[kind], "count": int, "next_page": int | None}


_COUNTS: dict[str, object] = {"item": ExecutionStatistics}
_USAGE: dict[str, object] = {"item": LLMUsageStatistics}
_VALUE: dict[str, object] = {
    "item": ArtifactRef, "value": object, "value_text": str | None, "total_chars": int, "next_offset": int | None
}  # fmt: skip

TOOLS = (
    Tool("kitaru_status", reading.status, "status", {"item": _Status}),
    Tool("kitaru_executions_list", reading.executions_list, "executions.list", _page(Execution)),
    Tool("kitaru_executions_get", reading.executions_get, "executions.get", _ONE),
    Tool("kitaru_executions_latest", reading.executions_latest, "executions.latest", _ONE),
    Tool("kitaru_executions_pending_waits", reading.executions_pending_waits, "executions.waits", _page(PendingWait)),
    Tool("get_execution_logs", reading.execution_logs, "executions.logs", _page(LogEntry)),
    Tool("kitaru_artifacts_list", reading.artifacts_list, "artifacts.list", _page(ArtifactRef)),
    Tool("kitaru_artifacts_get", reading.artifacts_get, "artifacts.get", _VALUE),
    Tool(
        "kitaru_executions_statistics",
        counting.executions_statistics,
        "executions.statistics",
        {"item": ExecutionStatistics},
    ),
    Tool("kitaru_llm_usage_statistics", counting.llm_usage_statistics, "llm-usage.statistics", _USAGE),
    Tool("kitaru_stacks_list", reading.stacks_list, "stack.list", _page(_Stack)),
    Tool("kitaru_executions_run", acting.executions_run, "run", _BEGUN, reads=False),
    Tool("kitaru_executions_resume", acting.executions_resume, "executions.resume", _BEGUN, reads=False),
    Tool("kitaru_executions_retry", acting.executions_retry, "executions.retry", _BEGUN, reads=False),
    Tool("kitaru_executions_replay", acting.executions_replay, "executions.replay", _BEGUN, reads=False),
    Tool("kitaru_executions_input", acting.executions_input, "executions.input", _ONE, reads=False),
    Tool("kitaru_executions_cancel", acting.executions_cancel, "executions.cancel", _ONE, reads=False, destroys=True),
    Tool("kitaru_executions_abort_wait", acting.executions_abort_wait, "executions.input", _ONE, reads=False, destroys=True),
)
"""Every tool."""
