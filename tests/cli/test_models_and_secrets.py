"""`kitaru model …` and `kitaru secrets …`."""

from __future__ import annotations

import io
import sys

import pytest

import kitaru
from tests.cli.conftest import Run

CANARY = "sk-canary-7f3a"


def test_models_are_registered_listed_and_removed(run: Run) -> None:
    made = run("model", "register", "fast", "--model", "openai/gpt-5-mini", "--secret", "openai", "-o", "json").json
    item = {
        "alias": "fast", "model": "openai/gpt-5-mini", "base_url": None, "secret": "openai", "is_default": True
    }  # fmt: skip
    assert made == {"command": "model.register", "item": item}
    assert run("model", "list", "-o", "json").json == {"command": "model.list", "items": [item], "count": 1}
    assert run("model", "list").out.splitlines() == [
        "Alias   Default   Model               Base URL   Secret",
        "fast    default   openai/gpt-5-mini              openai",
    ]
    assert run("model", "remove", "fast", "-o", "json").json == {"command": "model.remove", "item": {"alias": "fast"}}
    assert run("model", "list").out == ""


def test_exit_codes_of_model(run: Run) -> None:
    assert run("model", "register", "fast", "--model", "gpt-5").code == 2
    assert run("model", "register", "fast").code == 2
    assert run("model", "register", "a/b", "--model", "openai/gpt-5").code == 2
    assert run("model", "remove", "fast").code == 3


def test_secrets_are_set_listed_shown_and_deleted_without_a_value_in_the_output(run: Run) -> None:
    said = [
        run("secrets", "set", "openai", f"--api_key={CANARY}", "--org=me", "-o", "json"),
        run("secrets", "set", "other", f"--API-KEY={CANARY}"),
        run("secrets", "list", "-o", "json"),
        run("secrets", "list"),
        run("secrets", "show", "openai", "-o", "json"),
        run("secrets", "show", "openai"),
        run("secrets", "delete", "other", "-o", "json"),
    ]
    assert [ran.code for ran in said] == [0] * len(said)
    assert not any(CANARY in ran.out + ran.err for ran in said)
    shown = {"name": "openai", "values": {"api_key": "***", "org": "***"}}
    assert said[0].json == {"command": "secrets.set", "item": shown}
    assert said[2].json["count"] == 2
    assert said[3].out.splitlines() == ["Secret   Keys", "openai   api_key, org", "other    API-KEY"]
    assert said[4].json == {"command": "secrets.show", "item": shown}
    assert kitaru.get_secret("openai")["api_key"] == CANARY
    assert run("secrets", "show", "other").code == 3


def test_stdin_holds_lines_of_pairs(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"api_key={CANARY}=x\n\norg=me\n"))
    assert run("secrets", "set", "openai", "--stdin").code == 0
    assert kitaru.get_secret("openai").values == {"api_key": f"{CANARY}=x", "org": "me"}


@pytest.mark.parametrize(
    "words", [(), ("--api_key", CANARY), (CANARY,), ("--api_key=",), (f"--a={CANARY}", "--a=2"), (f"--={CANARY}",)]
)
def test_what_is_no_pair_is_refused_and_not_repeated(run: Run, words: tuple[str, ...]) -> None:
    for form in ("text", "json"):
        ran = run("secrets", "set", "openai", *words, "-o", form)
        assert ran.code == 2
        assert CANARY not in ran.out + ran.err
    assert run("secrets", "list", "-o", "json").json["count"] == 0


def test_exit_codes_of_secrets(run: Run) -> None:
    assert run("secrets", "show", "nobody").code == 3
    assert run("secrets", "delete", "nobody").code == 3
    assert run("secrets", "set", "", "--a=b").code == 2
