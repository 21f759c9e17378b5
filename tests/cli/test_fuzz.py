"""R24: every command with hostile words where it takes them: a documented exit code, a typed error, no traceback."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kitaru.cli.app import build
from kitaru.domain import events as e
from kitaru.store.log import EventLog
from tests.cli.conftest import Ran, Run
from tests.client.recording import append, completed, opened, started, wait
from tests.docs.references import commands
from tests.fuzz import texts

pytestmark = pytest.mark.timeout(300)  # hundreds of commands each, on machines that do other things too
LIVE = {"worker", "mcp", "executions watch"}
"""They go on until something happens; `watch` is of the one execution that has ended, below."""
CODES = (0, 1, 2, 3, 4, 5, 6)
REAL = {name: command for name, command in commands(typer.main.get_command(build())) if name not in LIVE}
inside = texts.filter(lambda text: not text.startswith(("/", "~")) and "../.." not in text)
"""Words that name no place outside of the test's folder, for the commands that make folders."""


def words_of(command: Any) -> st.SearchStrategy[list[str]]:
    """Its arguments and some of its options, each with a word that may fit, or not."""
    arguments = [inside | st.just("ID") for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each.param_type_name == "option" and "--follow" not in each.opts]
    chosen = st.lists(st.sampled_from(options).flatmap(_given), max_size=4) if options else st.just([])
    return st.tuples(st.tuples(*arguments), chosen).map(
        lambda drawn: [*drawn[0], *(word for part in drawn[1] for word in part)]
    )


def _given(option: Any) -> st.SearchStrategy[list[str]]:
    word = st.sampled_from(option.opts)
    return word.map(lambda name: [name]) if option.is_flag else st.tuples(word, inside | st.just("json")).map(list)


@pytest.fixture(autouse=True)
def nothing_is_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))


@pytest.fixture
def ended(log: EventLog) -> str:
    """An execution that has ended, beside one that waits, both with hostile text in them."""
    waits = append(
        log, started(log, "agent\x1b[2J", metadata={"a\u202eb": "\x00"}), wait(1, "go\u2066", question="\x1b]0;x\x07")
    )
    append(log, waits, e.ExecutionSuspended(at=5))
    head = append(log, started(log, "\ud7ff", tags=("'; --",)), opened(1, "$(touch canary)"), completed(1, "\x07"))
    return append(log, head, e.ExecutionCancelled(at=9)).exec_id


def check(ran: Ran, folder: Path, words: list[str]) -> None:
    assert ran.code in CODES, (words, ran)
    assert "Traceback (most" not in ran.err, (words, ran)
    assert "please report it" not in ran.err, (words, ran)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]", ran.out + ran.err), (words, ran)
    assert not (folder / "canary").exists()
    if ran.code and "-o" in words and words[words.index("-o") + 1 : words.index("-o") + 2] == ["json"] and ran.err:
        assert "error" in json.loads(ran.err.splitlines()[-1]) or ran.out


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@pytest.mark.parametrize("name", REAL)
@given(data=st.data())
def test_every_command_survives_every_word(run: Run, ended: str, folder: Path, name: str, data: st.DataObject) -> None:
    words = [*name.split(), *(ended if word == "ID" else word for word in data.draw(words_of(REAL[name])))]
    check(run(*words), folder, words)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(word=texts)
def test_watching_what_is_not_there_ends(run: Run, ended: str, folder: Path, word: str) -> None:
    words = ["executions", "watch", "--interval", word, ended]
    check(run(*words), folder, words)
    check(run("executions", "watch", f"x{word}"), folder, [word])


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(inside | st.sampled_from([*" ".join(REAL).split(), "-o", "json", "--where"]), max_size=6))
def test_any_line_at_all_is_survived(run: Run, ended: str, folder: Path, words: list[str]) -> None:
    if not LIVE & {*words, " ".join(words[:2])}:
        check(run(*words), folder, words)
