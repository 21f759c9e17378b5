"""Tab: commands, options, and what is in the store; quickly, and without a word when something is wrong."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kitaru.aliases import register_model
from kitaru.secrets import create_secret
from kitaru.store.log import EventLog
from tests.cli.commands import environment
from tests.cli.conftest import Run
from tests.client.recording import started


def offered(folder: Path, line: str, shell: str = "bash", **more: str) -> list[str]:
    """What a shell is given for a line whose cursor is at its end."""
    words = line.split(" ")
    asked = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)} if shell == "bash" else {"_TYPER_COMPLETE_ARGS": line}
    ran = subprocess.run(
        [sys.executable, "-m", "kitaru.cli"],
        cwd=folder, env={**environment(), **asked, "_KITARU_COMPLETE": f"complete_{shell}", **more},
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert ran.stderr == ""
    return ran.stdout.splitlines() if ran.stdout.strip() else []


@pytest.fixture
def exec_id(log: EventLog) -> str:
    return started(log, "reports", tags=("weekly",)).exec_id


@pytest.mark.parametrize(
    ("line", "some"),
    [
        ("kitaru ", {"run", "status", "executions", "completion"}),
        ("kitaru exec", {"executions"}),
        ("kitaru executions ", {"list", "get", "watch", "input"}),
        ("kitaru executions list --st", {"--status", "--stack", "--store"}),
        ("kitaru executions list --status ", {"running", "waiting", "completed", "failed", "cancelled"}),
        ("kitaru executions list --status f", {"failed"}),
        ("kitaru executions list --flow ", {"reports"}),
        ("kitaru executions list --tag w", {"weekly"}),
        ("kitaru executions list -o j", {"json", "jsonl"}),
    ],
)
def test_what_fits_is_offered(folder: Path, exec_id: str, line: str, some: set[str]) -> None:
    assert some <= set(offered(folder, line))


@pytest.mark.parametrize("command", ["get", "watch", "events", "input", "resume", "cancel", "delete"])
def test_ids_are_offered_by_their_beginning(folder: Path, exec_id: str, command: str) -> None:
    assert offered(folder, f"kitaru executions {command} ") == [exec_id]
    assert offered(folder, f"kitaru executions {command} {exec_id[:9]}") == [exec_id]
    assert offered(folder, f"kitaru executions {command} ff") == []


def test_what_is_kept_for_the_user_is_offered(folder: Path, exec_id: str) -> None:
    register_model("fast", "openai/gpt-5-mini", secret="openai")
    create_secret("openai", {"api_key": "sk-not-a-real-one"})
    assert offered(folder, "kitaru model remove ") == ["fast"]
    assert offered(folder, "kitaru secrets show o") == ["openai"]
    assert offered(folder, "kitaru model register x --secret ") == ["openai"]
    assert offered(folder, "kitaru stack use w") == ["worker"]
    assert offered(folder, "kitaru run flows.py:a --stack l") == ["local"]
    Path(os.environ["KITARU_CONFIG_DIR"], "models.json").write_text("{")
    assert offered(folder, "kitaru model remove ") == []


def test_the_store_that_the_line_names_is_asked(folder: Path, exec_id: str) -> None:
    assert offered(folder, f"kitaru executions list --store {folder}/none --flow ") == []
    assert offered(folder, f"kitaru executions list --store {folder}/.kitaru --flow ") == ["reports"]


def test_zsh_and_fish_are_told_what_an_id_is(folder: Path, exec_id: str) -> None:
    assert f'"{exec_id}":"reports running"' in offered(folder, "kitaru executions get ", "zsh")[0]
    more = {"_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    assert offered(folder, "kitaru executions get ", "fish", **more)[0] == f"{exec_id}\treports running"


@pytest.mark.parametrize("place", ["/proc/nothing", "https://example.com", "\x07"])
def test_what_is_wrong_is_not_said_while_somebody_types(folder: Path, place: str) -> None:
    assert offered(folder, f"kitaru executions list --store {place} --flow ") == []


def test_a_damaged_store_is_not_said_either(folder: Path) -> None:
    (folder / ".kitaru" / "kitaru.db").write_bytes(b"no database at all" * 1000)
    assert offered(folder, "kitaru executions get ") == []


def test_completing_imports_none_of_the_heavy_ones(folder: Path, exec_id: str) -> None:
    program = "import sys, json; from kitaru.cli import main; main([]); print(json.dumps([*sys.modules]))"
    asked = {"COMP_WORDS": "kitaru executions get ", "COMP_CWORD": "3", "_KITARU_COMPLETE": "complete_bash"}
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env={**environment(), **asked},
        capture_output=True,
        text=True,
        check=True,
    )
    first, *_, last = ran.stdout.splitlines()
    assert first == exec_id
    modules = {name.partition(".")[0] for name in json.loads(last)}
    assert modules & {"duckdb", "eventsourcing", "mcp", "rich", "pydantic_ai"} == set()
    assert not any(name.startswith("kitaru.cli.") and name.endswith(("running", "store")) for name in json.loads(last))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_script(run: Run, shell: str) -> None:
    script = run("completion", shell, "-o", "json").json["item"]
    assert script["shell"] == shell  # type: ignore[index]
    assert "_KITARU_COMPLETE" in script["script"]  # type: ignore[index]
    assert run("completion", shell).out == f"{script['script']}\n"  # type: ignore[index]


def test_the_shell_is_the_users_own_unless_it_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/usr/bin/zsh")
    assert run("completion", "-o", "json").json["item"]["shell"] == "zsh"  # type: ignore[index]
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    assert run("completion").code == 2


def test_bash_completes_with_the_script(folder: Path, exec_id: str) -> None:
    bash = shutil.which("bash")
    assert bash is not None
    tools = folder / "bin"
    tools.mkdir()
    (tools / "kitaru").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m kitaru.cli "$@"\n')
    (tools / "kitaru").chmod(0o755)
    program = """
    source <(kitaru completion bash)
    COMP_WORDS=(kitaru executions get 0); COMP_CWORD=3
    _kitaru_completion kitaru
    echo "${COMPREPLY[@]}"
    """
    env = {**environment(), "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    ran = subprocess.run([bash, "--norc", "-c", program], cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr) == (f"{exec_id}\n", "")
