"""R24: whatever a model sends, an answer or an error that says what is wrong; nothing loaded, nothing leaked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from kitaru.client import KitaruClient
from kitaru.compose import open_log
from kitaru.mcp.desk import Desk
from kitaru.mcp.server import answer
from kitaru.mcp.tools import TOOLS, Tool
from kitaru.settings import StoreChoice
from tests.client.recording import append, completed, opened, started, wait
from tests.fuzz import deep, texts, values

CODES = {
    "usage", "not-found", "state", "not-trusted", "not-loadable", "ambiguous-id", "ambiguous-wait", "wait-validation",
    "value-not-encodable", "value-too-large", "name-too-long", "log-source", "feature-not-available", "too-deep", "erased",
    "not-unicode", "log-retrieval", "extra-missing",
}  # fmt: skip
STARTERS = {"run", "resume", "retry", "replay"}
_validators: dict[str, Draft202012Validator] = {}


@pytest.fixture
def desk(folder: Path) -> Desk:
    """A store with one execution that waits, and hostile text in it."""
    log = open_log(StoreChoice(str(folder / ".kitaru"), ""))
    head = started(log, "agent\x1b[2J", metadata={"a\u202eb": "x" * 10_000})
    append(log, head, opened(1), completed(1, "\x00"), wait(1))
    client = KitaruClient(folder / ".kitaru")
    desk = Desk(client, start_seconds=20.0)
    desk.exec_id = head.exec_id  # type: ignore[attr-defined]
    return desk


def arguments_of(tool: Tool) -> st.SearchStrategy[dict[str, Any]]:
    """Some arguments of the right names, some of the right types, most of neither."""
    known = {name: texts | values | st.just("ID") for name in tool.input_schema["properties"]}
    needed = {name: known[name] for name in tool.input_schema.get("required", [])}
    others = {name: each for name, each in known.items() if name not in needed}
    return st.fixed_dictionaries(needed, optional=others) | st.dictionaries(texts, values, max_size=3)


def check(tool: Tool, desk: Desk, arguments: dict[str, Any]) -> None:
    result = answer(tool, desk, arguments)
    sent = result.model_dump_json(by_alias=True)
    assert len(sent) < 5_000_000
    (said,) = result.content
    assert said.type == "text"
    assert "Traceback" not in said.text
    if result.is_error:
        assert result.meta is not None
        assert result.meta["kitaru/error"]["code"] in CODES, said.text
        assert said.text
    else:
        validator = _validators.setdefault(tool.name, Draft202012Validator(tool.output_schema))
        validator.validate(json.loads(said.text))


QUIET = [tool for tool in TOOLS if tool.name.rpartition("_")[2] not in STARTERS]
LOUD = [tool for tool in TOOLS if tool.name.rpartition("_")[2] in STARTERS]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@pytest.mark.parametrize("tool", QUIET, ids=lambda tool: tool.name)
@given(data=st.data())
def test_every_tool_answers_whatever_it_is_sent(desk: Desk, tool: Tool, data: st.DataObject) -> None:
    arguments = data.draw(arguments_of(tool))
    given = {key: desk.exec_id if value == "ID" else value for key, value in arguments.items()}  # type: ignore[attr-defined]
    check(tool, desk, given)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@pytest.mark.parametrize("tool", LOUD, ids=lambda tool: tool.name)
@given(data=st.data())
def test_what_starts_processes_loads_nothing_that_is_not_trusted(
    desk: Desk, folder: Path, tool: Tool, data: st.DataObject
) -> None:
    (folder / "flows.py").write_text(f"open({str(folder / 'canary')!r}, 'w')\n")
    arguments = data.draw(arguments_of(tool))
    if "target" in tool.input_schema["properties"]:
        arguments["target"] = data.draw(st.sampled_from(["flows.py:f", "./flows.py:f", "../project/flows.py:f"]) | texts)
    check(tool, desk, {key: desk.exec_id if value == "ID" else value for key, value in arguments.items()})  # type: ignore[attr-defined]
    assert not (folder / "canary").exists()


@pytest.mark.parametrize("levels", [50, 500, 50_000])
@pytest.mark.parametrize("name", ["kitaru_executions_input", "kitaru_executions_list"])
def test_values_nested_deeply_are_refused_or_taken(desk: Desk, name: str, levels: int) -> None:
    tool = next(tool for tool in TOOLS if tool.name == name)
    exec_id = desk.exec_id  # type: ignore[attr-defined]
    sent = (
        {"exec_id": exec_id, "wait": "approve", "value": deep(levels)} if "input" in name else {"where": {"a": deep(levels)}}
    )
    check(tool, desk, sent)
