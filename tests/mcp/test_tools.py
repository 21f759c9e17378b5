"""What is served: the tools by name, their hints and schemas, and answers that are the command line's own JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from kitaru import checkpoint, flow, save, wait
from kitaru.cli import main
from kitaru.client import KitaruClient
from kitaru.mcp.cutting import whole
from kitaru.runtime.usage import record_usage
from kitaru.settings import configure
from tests.mcp.conftest import Tools

READERS = {
    "kitaru_status", "kitaru_executions_list", "kitaru_executions_get", "kitaru_executions_latest",
    "kitaru_executions_pending_waits", "kitaru_artifacts_list", "kitaru_artifacts_get", "kitaru_stacks_list",
    "get_execution_logs", "kitaru_executions_statistics", "kitaru_llm_usage_statistics",
}  # fmt: skip
ACTORS = {
    "kitaru_executions_run", "kitaru_executions_resume", "kitaru_executions_retry", "kitaru_executions_replay",
    "kitaru_executions_input", "kitaru_executions_cancel", "kitaru_executions_abort_wait",
}  # fmt: skip
LONG = "x" * 10_000
SPENT = {
    "adapter": "kitaru.llm", "surface": "direct_llm", "status": "completed", "billing_effect": "incurred",
    "cache_status": "executed", "provider": "openai", "model": "small", "usage": {"total_tokens": 7},
}  # fmt: skip


@checkpoint
def step(text: str) -> str:
    save("note", {"long": LONG}, type="context")
    record_usage(SPENT)
    return text


@flow
def talks(text: str = "hello") -> str:
    for number in range(3):
        print(f"line {number}")
        step(text)
    return text


@flow
def asks() -> int:
    return wait(schema=int, name="approve", question="How many?", timeout=0)


@flow
def says(text: str) -> object:
    return echo(text)


@checkpoint
def echo(text: str) -> object:
    return text


@pytest.fixture
def filled(tools: Tools, folder: Path) -> Tools:
    """A store with some executions."""
    configure(store=str(folder / ".kitaru"))
    for _ in range(3):
        talks.run().wait()
    tools.wait_for(asks.run().exec_id, lambda found: found.runner == "none" and found.pending_wait is not None)
    return tools


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """The JSON of the command line."""
    capsys.readouterr()
    assert main([*words, "-o", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_these_tools_are_served(tools: Tools) -> None:
    assert set(tools.list()) == READERS | ACTORS


def test_a_read_only_server_has_the_readers_alone(folder: Path) -> None:
    with KitaruClient(folder / ".kitaru") as client:
        tools = Tools(client, read_only=True)
        assert set(tools.list()) == READERS
        assert "there is no tool 'kitaru_executions_cancel' here" in tools.protocol_error("kitaru_executions_cancel")


def test_hints_say_what_a_tool_may_do(tools: Tools) -> None:
    hints = {name: tool.annotations for name, tool in tools.list().items()}
    assert {name for name, hint in hints.items() if hint and hint.read_only_hint} == READERS
    destructive = {name for name, hint in hints.items() if hint and hint.destructive_hint}
    assert destructive == {"kitaru_executions_cancel", "kitaru_executions_abort_wait"}
    assert {name for name, hint in hints.items() if hint and hint.idempotent_hint} == READERS


def test_every_tool_and_argument_is_described_and_closed(tools: Tools) -> None:
    for tool in tools.list().values():
        assert tool.description, tool.name
        for schema in (tool.input_schema, tool.output_schema):
            assert schema is not None
            Draft202012Validator.check_schema(schema)
            assert schema["additionalProperties"] is False
        for name, argument in tool.input_schema["properties"].items():
            assert argument.get("description"), (tool.name, name)


@pytest.mark.parametrize(
    ("tool", "arguments", "words"),
    [
        ("kitaru_status", {}, ["status"]),
        ("kitaru_stacks_list", {}, ["stack", "list"]),
        ("kitaru_executions_list", {"flow": "talks"}, ["executions", "list", "--flow", "talks"]),
        ("kitaru_executions_latest", {"flow": "asks"}, ["executions", "latest", "--flow", "asks"]),
        ("kitaru_executions_get", {"exec_id": "ID"}, ["executions", "get", "ID"]),
        ("kitaru_executions_pending_waits", {}, ["executions", "waits"]),
        (
            "kitaru_executions_statistics",
            {"group_by": ["status", "flow"], "metrics": ["n:step_count:sum"]},
            ["executions", "statistics", "--group-by", "status", "--group-by", "flow", "--metric", "n:step_count:sum"],
        ),
        (
            "kitaru_llm_usage_statistics",
            {"group_by": ["model", "time:month"], "metrics": ["n:tokens:sum"]},
            ["llm-usage", "statistics", "--group-by", "model", "--group-by", "time:month", "--metric", "n:tokens:sum"],
        ),
        ("get_execution_logs", {"exec_id": "ID"}, ["executions", "logs", "ID"]),
        ("kitaru_artifacts_list", {"exec_id": "ID"}, ["artifacts", "list", "ID"]),
        ("kitaru_artifacts_get", {"artifact_id": "ID.a6"}, ["artifacts", "get", "ID.a6"]),
    ],
)
def test_an_answer_is_the_command_lines_json(
    filled: Tools, capsys: pytest.CaptureFixture[str], tool: str, arguments: dict[str, Any], words: list[str]
) -> None:
    exec_id = filled.client.executions.latest("talks").exec_id
    store = [] if words[0] == "stack" else ["--store", str(filled.client.store.location)]
    expected = printed(capsys, *(word.replace("ID", exec_id) for word in words), *store)
    given = {name: value.replace("ID", exec_id) if isinstance(value, str) else value for name, value in arguments.items()}
    if "max_chars" in filled.list()[tool].input_schema["properties"]:
        given["max_chars"] = 100_000
    found = filled.get(tool, **given)
    assert found | expected == found
    assert found["truncated"] == []


def test_the_text_of_an_answer_is_its_structure(filled: Tools) -> None:
    result = filled.call("kitaru_executions_list")
    assert result.content[0].type == "text"
    assert json.loads(result.content[0].text) == result.structured_content


def test_pages_hold_every_execution_once(filled: Tools) -> None:
    seen, page = [], 1
    while page is not None:
        found = filled.get("kitaru_executions_list", page=page, size=2)
        seen += [item["exec_id"] for item in found["items"]]
        page = found["next_page"]
    assert seen == [each.exec_id for each in filled.client.executions.list()]


def test_a_last_page_that_is_full_has_no_next(filled: Tools) -> None:
    assert filled.get("kitaru_executions_list", size=4)["next_page"] is None
    assert filled.get("kitaru_executions_list", size=3)["next_page"] == 2


def test_calls_and_values_of_one_execution_come_in_pages(filled: Tools) -> None:
    exec_id = filled.client.executions.latest("talks").exec_id
    calls, page = [], 1
    while page is not None:
        found = filled.get("kitaru_executions_get", exec_id=exec_id, page=page, size=2)
        calls += [call["invocation_id"] for call in found["item"]["checkpoints"]]
        assert (found["item"]["checkpoint_count"], found["item"]["artifact_count"]) == (3, 6)
        page = found["next_page"]
    assert calls == ["step", "step_2", "step_3"]


def test_pages_of_logs_begin_with_the_newest(filled: Tools) -> None:
    exec_id = filled.client.executions.latest("talks").exec_id
    pages, page = [], 1
    while page is not None:
        found = filled.get("get_execution_logs", exec_id=exec_id, page=page, size=2)
        pages.append([item["message"] for item in found["items"]])
        page = found["next_page"]
    assert pages == [["line 1", "line 2"], ["line 0"]]


def test_an_execution_can_be_seen_as_it_was(filled: Tools) -> None:
    exec_id = filled.client.executions.latest("talks").exec_id
    assert filled.get("kitaru_executions_get", exec_id=exec_id, version=2)["item"]["status"] == "running"


def test_a_long_text_is_cut_named_and_to_be_had(tools: Tools, folder: Path) -> None:
    configure(store=str(folder / ".kitaru"))
    exec_id = talks.options(metadata={"essay": LONG, "many": [*range(500)]}).run().exec_id
    tools.wait_for_end(exec_id)
    found = tools.get("kitaru_executions_get", exec_id=exec_id)
    assert found["item"]["metadata"]["essay"] == LONG[:4000] + "…"
    assert len(found["item"]["metadata"]["many"]) == 200
    assert found["truncated"] == ["item.metadata.essay", "item.metadata.many"]
    whole = tools.get("kitaru_executions_get", exec_id=exec_id, max_chars=20_000)
    assert (whole["item"]["metadata"]["essay"], whole["item"]["metadata"]["many"]) == (LONG, [*range(500)])
    assert whole["truncated"] == []


def test_a_long_value_comes_in_parts(filled: Tools) -> None:
    exec_id = filled.client.executions.latest("talks").exec_id
    artifact = filled.client.artifacts.list(exec_id, name="note")[0].artifact_id
    parts, offset = [], 0
    while offset is not None:
        found = filled.get("kitaru_artifacts_get", artifact_id=artifact, offset=offset, max_chars=4_000)
        assert found["value"] is None
        parts.append(found["value_text"])
        offset = found["next_offset"]
    assert json.loads("".join(parts)) == {"long": LONG}
    assert len(parts) == 3


@pytest.mark.parametrize("text", ["a\x00b\x1b[31m", "\u202eabc", "emoji \U0001f600"])
def test_any_text_comes_through(tools: Tools, folder: Path, text: str) -> None:
    configure(store=str(folder / ".kitaru"))
    exec_id = says.run(text).exec_id
    tools.wait_for_end(exec_id)
    assert tools.get("kitaru_artifacts_get", artifact_id=f"{exec_id}.a4")["value"] == text


def test_a_lone_surrogate_is_shown_as_the_client_shows_it(tools: Tools, folder: Path) -> None:
    configure(store=str(folder / ".kitaru"))
    exec_id = says.run("a\ud800b").exec_id
    tools.wait_for_end(exec_id)
    assert tools.get("kitaru_artifacts_get", artifact_id=f"{exec_id}.a4")["value"] == "a\ufffd\ufffd\ufffdb"


def test_a_text_that_utf_8_does_not_hold_is_sent_as_its_escape() -> None:
    assert whole({"k\ud800": ["a\udfffb", 1, None]}) == {"k\\ud800": ["a\\udfffb", 1, None]}


@pytest.mark.parametrize(
    ("tool", "arguments", "code", "message"),
    [
        ("kitaru_executions_get", {"exec_id": "0000"}, "not-found", "no execution '0000' in the store"),
        ("kitaru_executions_get", {}, "usage", "exec_id: Field required"),
        (
            "kitaru_executions_get",
            {"exec_id": "0", "colour": 1},
            "usage",
            "colour: there is no such argument; it takes exec_id",
        ),
        ("kitaru_executions_list", {"size": 1000}, "usage", "size: Input should be less than or equal to 100"),
        ("kitaru_executions_list", {"status": "done"}, "usage", "done"),
        ("kitaru_executions_list", {"since": "soon"}, "usage", "soon"),
        ("kitaru_executions_statistics", {"group_by": ["colour"]}, "usage", "colour"),
        ("kitaru_executions_statistics", {"metrics": ["a:b:c"]}, "usage", "a:b:c"),
        ("kitaru_executions_latest", {"flow": "none"}, "not-found", "no execution that matches"),
        ("get_execution_logs", {"exec_id": "ID", "source": "all"}, "log-source", "all"),
        ("kitaru_artifacts_get", {"artifact_id": "x"}, "usage", "is no artifact id"),
        ("kitaru_executions_input", {"exec_id": "ID", "wait": "nope", "value": 1}, "state", "approve"),
        ("kitaru_executions_input", {"exec_id": "ID", "wait": "approve", "value": "no"}, "wait-validation", "integer"),
        ("kitaru_executions_input", {"exec_id": "ID", "value": 1}, "usage", "wait: Field required"),
        ("kitaru_executions_retry", {"exec_id": "ID"}, "state", "waiting"),
    ],
)
def test_a_refusal_says_what_the_client_says(
    filled: Tools, tool: str, arguments: dict[str, Any], code: str, message: str
) -> None:
    waits = filled.client.executions.latest("asks").exec_id
    given = {name: waits if value == "ID" else value for name, value in arguments.items()}
    found = filled.refusal(tool, **given)
    assert found[0] == code
    assert message in found[1]
