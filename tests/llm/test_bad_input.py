"""Bad input is refused by a typed error that says what to do, before anything is recorded or asked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import flow
from kitaru.domain.errors import KitaruUsageError
from tests.llm.asking import calls_of, start
from tests.llm.servers import Server

ROOT = Path(kitaru.__file__).parents[1]
USER = {"role": "user", "content": "x"}
PROMPTS: list[Any] = [
    "", "   ", None, 3, b"x", [], [{"role": "system", "content": "x"}], ["x"], [None], [{}], [{"role": "user"}],
    [{"content": "x"}], [{"role": "robot", "content": "x"}], [{"role": "user", "content": ""}],
    [{"role": "user", "content": 3}], [{"role": "user", "content": ["x"]}], [USER, {**USER, "name": "y"}],
    {"role": "user", "content": "x"}, "\ud800", [{"role": "user", "content": "\udfff"}],
]  # fmt: skip
OPTIONS: list[dict[str, Any]] = [
    {"model": ""}, {"model": "nobody/x"}, {"model": "openai/"}, {"model": 3}, {"system": ""}, {"system": 3},
    {"temperature": float("nan")}, {"temperature": -0.1}, {"temperature": float("inf")}, {"temperature": "hot"},
    {"temperature": True}, {"max_tokens": 0}, {"max_tokens": -5}, {"max_tokens": 1.5}, {"max_tokens": True},
    {"timeout": 0}, {"timeout": -1}, {"timeout": float("nan")}, {"timeout": None}, {"timeout": "long"},
    {"retries": -1}, {"retries": 1.5}, {"retries": None}, {"name": ""}, {"name": "a/b"}, {"name": 3}, {"name": "x" * 250},
]  # fmt: skip


@flow
def refused(place: int, is_prompt: bool) -> str:
    prompt = PROMPTS[place] if is_prompt else "2 + 2?"
    options: dict[str, Any] = {"model": "openai/gpt-4o-mini", **({} if is_prompt else OPTIONS[place])}
    try:
        kitaru.llm(prompt, **options)
    except KitaruUsageError as error:
        return error.message
    return ""


@pytest.mark.parametrize("place", range(len(PROMPTS)))
def test_a_prompt_that_is_none_is_refused(openai: Server, place: int) -> None:
    handle = refused.run(place, True)
    message = handle.wait(60)
    assert isinstance(message, str)
    assert len(message) > 20
    assert not calls_of(handle)
    assert openai.asked == []


@pytest.mark.parametrize("place", range(len(OPTIONS)))
def test_an_option_that_makes_no_sense_is_refused(openai: Server, place: int) -> None:
    handle = refused.run(place, False)
    message = handle.wait(60)
    assert isinstance(message, str)
    assert next(iter(OPTIONS[place])).split("_")[0] in message
    assert not calls_of(handle)
    assert openai.asked == []


def test_a_missing_credential_fails_the_call_without_a_request(openai: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    (call,) = calls_of(start(model="openai/gpt-4o-mini"))
    assert call.failure is not None
    assert "set OPENAI_API_KEY" in call.failure.message
    assert len(call.attempts) == 1
    assert openai.asked == []


@pytest.mark.parametrize("prices", ["litellm", "yes"])
def test_unknown_prices_fail_the_call_before_it_is_paid(
    openai: Server, prices: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KITARU_PRICES", prices)
    (call,) = calls_of(start(model="openai/gpt-4o-mini"))
    assert call.failure is not None
    assert "genai-prices" in call.failure.message
    assert openai.asked == []


BLOCKED = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in sys.argv[1].split(","):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
import kitaru
from kitaru import flow

@flow
def ask(model):
    try:
        return kitaru.llm("2 + 2?", model=model)
    except kitaru.KitaruError as error:
        return f"{type(error).__name__} {error.code}: {error.message}"

if __name__ == "__main__":
    print(ask.run(sys.argv[2]).wait())
"""


@pytest.mark.parametrize(
    ("missing", "model", "extra"),
    [
        ("pydantic_ai", "openai/x", "openai"), ("openai", "openai/x", "openai"), ("openai", "ollama/x", "openai"),
        ("openai", "openrouter/x", "openai"), ("anthropic", "anthropic/x", "anthropic"),
        ("pydantic_ai", "anthropic/x", "anthropic"),
    ],
)  # fmt: skip
def test_a_missing_extra_says_what_to_install(missing: str, model: str, extra: str, tmp_path: Path) -> None:
    script = tmp_path / "asking.py"
    script.write_text(BLOCKED)
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "KITARU_STORE": str(tmp_path / "s"), "OPENAI_API_KEY": "sk-x",
        "ANTHROPIC_API_KEY": "sk-x", "OPENROUTER_API_KEY": "sk-x",
    }  # fmt: skip
    ran = subprocess.run(
        [sys.executable, str(script), missing, model], env=environment, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    assert f"pip install '.[{extra}]'" in ran.stdout
    assert "llm-extra-missing" in ran.stdout


def test_secrets_without_cryptography_say_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys\nsys.modules['cryptography'] = None\nimport kitaru\n"
        "try:\n    kitaru.create_secret('a', {'k': 'v'})\nexcept kitaru.KitaruFeatureNotAvailableError as e:\n    print(e)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60
    )
    assert "pip install '.[llm]'" in ran.stdout, ran.stderr
