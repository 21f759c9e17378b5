"""`kitaru stack …`: the user's own choice, and what outranks it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import kitaru
from kitaru.domain.errors import KitaruUsageError
from tests.cli.conftest import Run


def test_two_stacks_are_built_in_and_local_is_active(run: Run) -> None:
    ran = run("stack", "list", "-o", "json")
    items = [(item["name"], item["is_active"]) for item in ran.json["items"]]  # type: ignore[attr-defined]
    assert (ran.json["command"], items) == ("stack.list", [("local", True), ("worker", False)])


def test_use_is_kept_in_the_users_folder(run: Run, tmp_path: Path) -> None:
    assert run("stack", "use", "worker").code == 0
    assert json.loads((tmp_path / "config" / "settings.json").read_text()) == {"stack": "worker"}
    assert run("stack", "current", "-o", "json").json["item"]["name"] == "worker"  # type: ignore[index]


def test_a_run_that_names_no_stack_takes_the_users(run: Run, folder: Path) -> None:
    (folder / "flows.py").write_text("from kitaru import flow\n@flow\ndef nothing():\n    return 1\n")
    run("stack", "use", "worker")
    item = run("run", "flows.py:nothing", "--detach", "-o", "json").json["item"]
    assert item["stack_name"] == "worker"  # type: ignore[index]
    item = run("run", "flows.py:nothing", "--stack", "local", "-o", "json").json["item"]
    assert (item["stack_name"], item["status"]) == ("local", "completed")  # type: ignore[index]


def test_configure_outranks_the_environment_and_that_the_users_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    kitaru.use_stack("worker")
    assert kitaru.current_stack().name == "worker"
    monkeypatch.setenv("KITARU_STACK", "local")
    assert kitaru.current_stack().name == "local"
    kitaru.configure(stack="worker")
    assert [stack.name for stack in kitaru.list_stacks() if stack.is_active] == ["worker"]


def test_use_says_when_something_outranks_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KITARU_STACK", "local")
    assert "KITARU_STACK" in run("stack", "use", "worker").err


@pytest.mark.parametrize("words", [("use", "nope"), ("show", ""), ("show", "LOCAL")])
def test_what_is_no_stack_is_exit_2(run: Run, words: tuple[str, ...]) -> None:
    ran = run("stack", *words)
    assert (ran.code, "'local' and 'worker'" in ran.err) == (2, True)


def test_show_says_where_flows_run(run: Run) -> None:
    assert "kitaru worker" in run("stack", "show", "worker").out
    assert "default" in run("stack", "show", "local").out


@pytest.mark.parametrize("text", ["", "[]", "{", '{"stack": 3}', '{"stack": "nope"}'])
def test_a_damaged_choice_is_a_typed_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "settings.json").write_text(text)
    with pytest.raises(KitaruUsageError):
        kitaru.current_stack()
