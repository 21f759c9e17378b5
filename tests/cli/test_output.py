"""What is printed is harmless, and errors have one shape and their exit code, whatever is typed or stored."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import kitaru
from kitaru.cli import main, output
from kitaru.domain import events as e
from kitaru.store.log import EventLog
from tests.cli import commands
from tests.cli.conftest import Run
from tests.client.recording import append, completed, failure, opened, started, value

NASTY = "\x1b[31mred\x1b]0;title\x07 \u202eabc\u2066 \x9b2J \x7f a\rb \x00 \U000e0041"


def test_stored_text_is_printed_escaped(run: Run, log: EventLog) -> None:
    head = append(
        log,
        started(log, metadata={NASTY: NASTY}),
        opened(1, "step"),
        completed(1, NASTY),
        failure(message=value(NASTY), traceback=value(NASTY)),
    )
    for words in (
        ("executions", "get", head.exec_id), ("executions", "get", head.exec_id, "-o", "json"), ("executions", "list"),
        ("executions", "list", "-o", "csv"), ("executions", "list", "-o", "jsonl"), ("executions", "events", head.exec_id),
        ("executions", "events", head.exec_id, "-o", "csv"), ("artifacts", "get", f"{head.exec_id}.a4"),
        ("executions", "watch", head.exec_id),
    ):  # fmt: skip
        ran = run(*words)
        assert not set(ran.out + ran.err) & set("\x1b\x07\x00\x7f\x9b\r\u202e\u2066\U000e0041"), words


def test_json_with_escapes_is_still_the_same_value(run: Run, log: EventLog) -> None:
    head = started(log, metadata={"k": NASTY})
    assert run("executions", "get", head.exec_id, "-o", "json").json["item"]["metadata"] == {"k": NASTY}  # type: ignore[index]


@given(st.text())
@example(NASTY)
@example("\ud800")
def test_cleaned_text_is_printable_and_json_comes_back(text: str) -> None:
    output.clean(text).encode()
    dumped = output.dumped({"k": text})
    dumped.encode()
    assert json.loads(dumped) == {"k": text}
    assert "\x1b" not in output.clean(text) + dumped


@pytest.mark.parametrize(
    ("words", "code", "kind"),
    [
        (("executions", "get", "zzz"), 3, "KitaruNotFoundError"),
        (("executions", "get", ""), 2, "KitaruUsageError"),
        (("executions", "list", "--status", "done"), 2, "KitaruUsageError"),
        (("executions", "list", "--limit", "x"), 2, "KitaruUsageError"),
        (("executions", "list", "--nope"), 2, "KitaruUsageError"),
        (("executions", "nope"), 2, "KitaruUsageError"),
        (("nope",), 2, "KitaruUsageError"),
        (("artifacts", "get", "x"), 2, "KitaruUsageError"),
        (("executions", "list", "--store", "https://x.org"), 1, "KitaruFeatureNotAvailableError"),
        (("run", "nowhere.py:flow"), 2, "KitaruUsageError"),
        (("run", "x.py:flow", "--input", "[1]"), 2, "KitaruUsageError"),
        (("run", "x.py:flow", "--input", "{"), 2, "KitaruUsageError"),
        (("run", "x.py:flow", "--input", "@nowhere.json"), 2, "KitaruUsageError"),
        (("trust", "nowhere"), 2, "KitaruUsageError"),
        (("init", "nowhere"), 2, "KitaruUsageError"),
        (("store", "verify", "--store", "nowhere"), 3, "KitaruNotFoundError"),
    ],
)
def test_an_error_has_one_shape_and_its_exit_code(
    run: Run, log: EventLog, words: tuple[str, ...], code: int, kind: str
) -> None:
    ran = run(*words, "-o", "json")
    assert (ran.code, ran.out) == (code, "")
    assert ran.error["type"] == kind
    assert ran.error["message"]


@pytest.mark.parametrize("option", [("-o", "json"), ("--output", "json"), ("--output=json",), ("-ojson",)], ids=str)
def test_an_error_names_its_command_wherever_the_option_stands(run: Run, log: EventLog, option: tuple[str, ...]) -> None:
    for words in (
        (*option, "executions", "get", "zz"),
        ("executions", *option, "get", "zz"),
        ("executions", "get", "zz", *option),
    ):
        assert json.loads(run(*words).err)["command"] == "executions.get"


def test_an_error_as_text_is_one_line_on_stderr(run: Run, log: EventLog) -> None:
    ran = run("executions", "get", "zzz")
    assert ran.out == ""
    assert ran.err.startswith("Error: no execution 'zzz' in the store ")


def test_an_error_that_quotes_very_much_is_shortened(run: Run, log: EventLog) -> None:
    ran = run("executions", "get", "f" * 1_000_000)
    assert ran.code == 3
    assert len(ran.err) < 5_000
    assert ran.err.endswith("see: kitaru executions list\n")


def test_a_store_that_is_no_store_is_exit_5(run: Run, folder: Path) -> None:
    (folder / ".kitaru" / "kitaru.db").write_bytes(b"not a database" * 1000)
    ran = run("executions", "list", "-o", "json")
    assert (ran.code, ran.error["type"]) == (5, "KitaruBackendError")


WORDS = st.text(max_size=10) | st.sampled_from(
    ["executions", "list", "get", "events", "tag", "artifacts", "store", "info", "verify", "status", "init", "1", "-1", "{}",
     "--limit", "--where", "-o", "json", "csv", "--store", "--status", "--at", "--add", "'; DROP TABLE x", "..", "\udc80"]
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(WORDS, max_size=6))
def test_no_command_line_ends_in_a_traceback(run: Run, log: EventLog, words: list[str]) -> None:
    """R24: documented exit codes and typed errors only."""
    ran = run(*words)
    assert ran.code in (0, 1, 2, 3, 4, 5, 6)
    assert "Traceback" not in ran.out + ran.err
    assert "internal" not in ran.err


def kitaru_command(*words: str, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "PYTHONPATH": str(Path(kitaru.__file__).parents[1]), **env}
    return subprocess.run(
        [sys.executable, "-m", "kitaru.cli", *words], cwd=folder, env=variables, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("form", ["-o json", ""])
def test_a_pipe_that_closes_early_is_no_error(folder: Path, log: EventLog, form: str) -> None:
    for _ in range(300):
        started(log, "flow-" + "y" * 250, metadata={"x": "y" * 10_000})
    reading = f"({sys.executable} -m kitaru.cli executions list {form} --limit 0; echo $? > code) | head -c 10"
    env = {**os.environ, "PYTHONPATH": str(Path(kitaru.__file__).parents[1])}
    ran = subprocess.run(["sh", "-c", reading], cwd=folder, env=env, capture_output=True, text=True, check=True)
    assert (ran.stderr, (folder / "code").read_text(encoding="utf-8")) == ("", "0\n")


def test_text_that_the_terminal_cannot_show_is_escaped(folder: Path, log: EventLog) -> None:
    started(log, "flöw—名")
    ran = kitaru_command("executions", "list", folder=folder, PYTHONIOENCODING="ascii", LC_ALL="C")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert r"fl\xf6w\u2014\u540d" in ran.stdout


def test_the_version_imports_nothing(folder: Path) -> None:
    code = "import sys; from kitaru.cli import main; main(['--version']); "
    code += "print(sorted({'typer', 'pydantic', 'json'} & sys.modules.keys()))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == [f"kitaru {kitaru.__version__}", "[]"]


@pytest.mark.parametrize("module", ["kitaru", "kitaru.cli"])
def test_the_package_runs_as_a_module(folder: Path, module: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", module, "-V"], env=commands.environment(), capture_output=True, text=True, check=True
    )
    assert ran.stdout.startswith("kitaru ")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [["--version"], ["--help"], ["status"], ["executions", "list", "-o", "json"]])
def test_a_disk_that_is_full_is_no_traceback(folder: Path, log: EventLog, words: list[str], unbuffered: str) -> None:
    with open("/dev/full", "wb") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "kitaru.cli", *words],
            env={**commands.environment(), "PYTHONUNBUFFERED": unbuffered},
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert ran.returncode == 1
    assert b"No space left on device" in ran.stderr
    assert b"Traceback" not in ran.stderr
    assert b"Exception ignored" not in ran.stderr


def test_a_list_imports_neither_the_store_for_writing_nor_rich_nor_duckdb(folder: Path, log: EventLog) -> None:
    started(log)
    code = (
        "import sys; from kitaru.cli import main; main(['executions', 'list']); "
        "print(sorted({'eventsourcing', 'duckdb', 'rich', 'kitaru.domain.events', 'kitaru.runtime'} & sys.modules.keys()))"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"


def test_only_the_named_command_is_built() -> None:
    from kitaru.cli.app import build

    app = build(["executions", "list", "--limit", "3"])
    (group,) = app.registered_groups
    assert group.typer_instance is not None
    assert [command.name for command in group.typer_instance.registered_commands] == ["list"]
    assert app.registered_commands == []


@pytest.mark.parametrize(
    ("words", "usage"),
    [
        (("run",), "kitaru run [OPTIONS] TARGET"),
        (("recover",), "kitaru recover [OPTIONS] [EXECUTION]"),
        (("init",), "kitaru init [OPTIONS] [PATH]"),
        (("completion",), "kitaru completion [OPTIONS] [SHELL]"),
        (("executions", "tag"), "kitaru executions tag [OPTIONS] EXECUTION"),
    ],
)
def test_usage_shows_arguments_as_the_manual_does(run: Run, words: tuple[str, ...], usage: str) -> None:
    assert run(*words, "--help").out.splitlines()[0] == f"Usage: {usage}"


@pytest.mark.parametrize("group", ["executions", "artifacts", "store"])
def test_a_group_alone_is_its_help(run: Run, group: str) -> None:
    ran = run(group)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == run(group, "--help").out


def test_help_names_every_command(run: Run) -> None:
    out = run("--help").out
    for word in ("init", "status", "trust", "run", "recover", "executions", "artifacts", "store", "completion"):
        assert f"  {word} " in out


def test_a_command_of_a_group_is_found_without_its_group(run: Run) -> None:
    assert (
        run("latest").err == "Error: No such command 'latest'. Did you mean: kitaru executions latest; see: kitaru --help\n"
    )
    assert "kitaru executions list, kitaru artifacts list" in run("list").err
    assert run("executions", "zzz").err == "Error: No such command 'zzz'; see: kitaru executions --help\n"


def test_no_word_at_all_is_help(run: Run) -> None:
    assert run() == run("--help")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script(run: Run, shell: str) -> None:
    assert "_KITARU_COMPLETE" in run("completion", shell).out


def test_completing_a_word(folder: Path) -> None:
    ran = kitaru_command(folder=folder, _KITARU_COMPLETE="complete_bash", COMP_WORDS="kitaru executions l", COMP_CWORD="2")
    assert ran.stdout.split() == ["list", "latest", "logs"]


def test_main_takes_the_process_arguments(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["kitaru", "--version"])
    assert main() == 0
    assert capsys.readouterr().out == f"kitaru {kitaru.__version__}\n"


def test_a_done_flow_looks_done(run: Run, log: EventLog) -> None:
    append(log, started(log, at=0), e.ExecutionCompleted(at=3_725_000_000, output=value(1)))
    assert "1h 2m" in run("executions", "list").out


def on_a_terminal(*words: str, folder: Path, **env: str) -> str:
    """What a command prints on a terminal of 80 columns."""
    import pty

    pid, terminal = pty.fork()
    if pid == 0:  # pragma: no cover
        os.chdir(folder)
        variables = {name: text for name, text in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
        variables |= {"PYTHONPATH": str(Path(kitaru.__file__).parents[1]), "TERM": "xterm-256color", "COLUMNS": "80", **env}
        os.execve(sys.executable, [sys.executable, "-m", "kitaru.cli", *words], variables)
    shown = b""
    try:
        while part := os.read(terminal, 65536):
            shown += part
    except OSError:  # Linux says so when the other end is closed
        pass
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return shown.decode()


def test_a_terminal_has_colours_and_loses_no_id(folder: Path, log: EventLog) -> None:
    head = started(log, NASTY.replace("\x00", ""))
    shown = on_a_terminal("executions", "list", folder=folder)
    assert "\x1b[36m" in shown
    assert "\x07" not in shown
    assert head.exec_id in shown


def test_no_color_is_honoured(folder: Path, log: EventLog) -> None:
    started(log)
    assert "\x1b[36m" not in on_a_terminal("executions", "list", folder=folder, NO_COLOR="1")


SPEAKS = """
import os, subprocess
from kitaru import flow, checkpoint
print("while it loads")

@checkpoint
def step():
    print("a line")
    os.write(1, b"past Python\\n")
    subprocess.run(["echo", "of a child"])

@flow
def speaks():
    step()
    return 1
"""


def test_what_a_flow_prints_is_not_in_the_json(folder: Path) -> None:
    (folder / "flows.py").write_text(SPEAKS)
    found = commands.run_json("run", "flows.py:speaks", cwd=folder)
    assert (found["item"]["status"], found["value"]) == ("completed", 1)
    ran = commands.run("run", "flows.py:speaks", "-o", "json", cwd=folder)
    for said in ("while it loads", "a line", "past Python", "of a child"):
        assert said in ran.stderr
    exec_id = found["item"]["exec_id"]
    assert [each["message"] for each in commands.run_json("executions", "logs", exec_id, cwd=folder)["items"]] == ["a line"]


def test_without_json_it_is_where_it_was(folder: Path) -> None:
    (folder / "flows.py").write_text(SPEAKS)
    assert "past Python" in commands.run("run", "flows.py:speaks", cwd=folder).stdout


def test_json_that_nobody_reads_is_no_fault(folder: Path) -> None:
    (folder / "flows.py").write_text(SPEAKS)
    line = f"exec 3>&1; '{sys.executable}' -m kitaru.cli run flows.py:speaks -o json 2>err | true; cat err >&3"
    ran = subprocess.run(
        ["bash", "-c", line], cwd=folder, env=commands.environment(), capture_output=True, text=True, check=True
    )
    assert "Broken" not in ran.stdout
    assert "Traceback" not in ran.stdout
