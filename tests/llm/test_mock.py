"""KITARU_LLM_MOCK_RESPONSE answers without a network, a key, or an installed extra."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import flow
from kitaru.aliases import register_model
from kitaru.domain.errors import KitaruRuntimeError
from tests.llm.asking import FLOWS, calls_of, records_of, start
from tests.llm.servers import Server

ROOT = Path(kitaru.__file__).parents[1]


@pytest.fixture(autouse=True)
def mocked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KITARU_LLM_MOCK_RESPONSE", "mocked")


@pytest.mark.parametrize("where", FLOWS)
def test_it_answers_every_call(where: str) -> None:
    assert start(where=where).wait(60) == "mocked"
    assert start(where=where, model="openai/gpt-4o-mini").wait(60) == "mocked"


def test_no_request_is_made(openai: Server) -> None:
    start(model="openai/gpt-4o-mini").wait(60)
    assert openai.asked == []


def test_what_it_costs_is_unknown() -> None:
    register_model("fast", "openai/gpt-4o-mini")
    (record,) = records_of(start())
    assert {name: record[name] for name in (
        "status", "billing_effect", "cache_status", "provider", "requested_model", "resolved_model"
    )} == {
        "status": "completed", "billing_effect": "unknown", "cache_status": "unknown", "provider": "openai",
        "requested_model": "fast", "resolved_model": None,
    }  # fmt: skip
    assert record["usage"]["input_tokens"] is None
    assert record["cost"]["source"] == "none"


def test_artifacts_are_kept_as_of_any_call() -> None:
    handle = start()
    handle.wait(60)
    assert kitaru.load(handle.exec_id, "llm_1_response") == "mocked"


def test_its_text_may_be_json_for_an_output_type(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("[1, 2]", '{"value": [1, 2]}'):
        monkeypatch.setenv("KITARU_LLM_MOCK_RESPONSE", text)
        assert start(output_type=list[int]).wait(60) == [1, 2]


def test_a_text_that_does_not_fit_fails_at_once() -> None:
    @flow
    def careful() -> str:
        try:
            return str(kitaru.llm("?", output_type=list[int]))
        except KitaruRuntimeError as error:
            return error.code

    handle = careful.run()
    assert handle.wait(60) == "llm-output"
    (call,) = calls_of(handle)
    assert len(call.attempts) == 1


MOCKED = """
import json, sys
import kitaru
from kitaru import checkpoint, flow

@checkpoint
def inside():
    return kitaru.llm("b")

@flow
def ask():
    return [kitaru.llm("a"), inside()]

if __name__ == "__main__":
    value = ask.run().wait()
    print(json.dumps([value, sorted(sys.modules)]))
"""


def test_it_imports_neither_pydantic_ai_nor_an_sdk(tmp_path: Path) -> None:
    script = tmp_path / "asking.py"
    script.write_text(MOCKED)
    ran = subprocess.run(
        [sys.executable, str(script)], env={**os.environ, "PYTHONPATH": str(ROOT), "KITARU_STORE": str(tmp_path / "s")},
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    value, modules = json.loads(ran.stdout)
    assert value == ["mocked", "mocked"]
    heavy: set[Any] = {"pydantic_ai", "openai", "anthropic", "httpx", "httpx2", "cryptography", "genai_prices"}
    assert heavy & {name.partition(".")[0] for name in modules} == set()


def test_importing_kitaru_imports_none_of_it() -> None:
    code = (
        "import sys, json\nimport kitaru\nfrom kitaru import flow, checkpoint\n@flow\ndef f(): pass\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
    )
    modules = json.loads(ran.stdout)
    assert not [name for name in modules if name.startswith(("kitaru.runtime.llm", "kitaru.secrets", "kitaru.aliases"))]
