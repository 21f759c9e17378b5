"""From a target to the flow: what is loaded, and under which name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from kitaru.compose import open_log
from kitaru.domain.errors import KitaruRuntimeError, KitaruUsageError
from kitaru.domain.events import ExecutionStarted
from kitaru.runtime import code, recovery, trust
from kitaru.settings import resolve_store
from kitaru.store.log import EventLog
from tests.runtime import scripts
from tests.runtime.crashing import PATIENCE
from tests.runtime.records import events_of
from tests.runtime.targets import SIMPLE, recorded_in, source

pytestmark = pytest.mark.usefixtures("loaded_modules")

# --- what a user types -------------------------------------------------------------------------------------------------


def test_a_file_target_is_loaded(tmp_path: Path) -> None:
    file = source(tmp_path / "agent.py")
    assert code.load_flow(f"{file}:doubled").run(4).wait(PATIENCE) == 8


def test_a_module_target_is_loaded_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source(tmp_path / "some_agent.py")
    monkeypatch.chdir(tmp_path)
    assert code.load_flow("some_agent:doubled").run(4).wait(PATIENCE) == 8
    assert str(tmp_path) not in sys.path


def test_a_module_that_changes_the_current_folder_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source(tmp_path / "moving_agent.py", f"import os\nos.chdir('/')\n{SIMPLE}")
    monkeypatch.chdir(tmp_path)
    assert code.load_flow("moving_agent:doubled").name == "doubled"


def test_a_dotted_module_target_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source(tmp_path / "some_package" / "__init__.py", "")
    source(tmp_path / "some_package" / "inner.py")
    monkeypatch.chdir(tmp_path)
    assert code.load_flow("some_package.inner:doubled").name == "doubled"


def test_a_file_in_a_package_may_import_relatively(tmp_path: Path) -> None:
    source(tmp_path / "pack" / "__init__.py", "")
    source(tmp_path / "pack" / "sub" / "__init__.py", "")
    source(tmp_path / "pack" / "steps.py")
    file = source(tmp_path / "pack" / "sub" / "agent.py", "from ..steps import double\nfrom kitaru import flow\n" + FLOW)
    loaded = code.load_flow(f"{file}:tripled")
    assert loaded.fn.__module__ == "pack.sub.agent"
    assert loaded.run(4).wait(PATIENCE) == 12


FLOW = """
@flow
def tripled(x):
    return double(x) + x
"""


def test_a_file_may_import_its_neighbours(tmp_path: Path) -> None:
    source(tmp_path / "neighbour_steps.py")
    file = source(tmp_path / "agent2.py", "from neighbour_steps import double\nfrom kitaru import flow\n" + FLOW)
    assert code.load_flow(f"{file}:tripled").run(4).wait(PATIENCE) == 12


def test_a_file_is_executed_once_however_often_it_is_loaded(tmp_path: Path) -> None:
    file = source(tmp_path / "counting.py", f"with open({str(tmp_path / 'n')!r}, 'a') as f: f.write('x')\n{SIMPLE}")
    first, second = (code.load_flow(f"{file}:doubled") for _ in range(2))
    assert first is second
    assert (tmp_path / "n").read_text() == "x"


def test_two_files_of_one_name_are_two_modules(tmp_path: Path) -> None:
    for folder, factor in (("one", 2), ("two", 3)):
        source(tmp_path / folder / "same.py", SIMPLE.replace("x * 2", f"x * {factor}"))
    assert [code.load_flow(f"{tmp_path / d / 'same.py'}:doubled").run(4).wait(PATIENCE) for d in ("one", "two")] == [8, 12]


def test_a_file_named_like_a_library_does_not_hide_it(tmp_path: Path) -> None:
    import json as before

    file = source(tmp_path / "json.py")
    code.load_flow(f"{file}:doubled")
    assert sys.modules["json"] is before


@pytest.mark.parametrize(
    "target",
    [
        "",
        "nothing",
        ":flow",
        "agent.py:",
        "no/such/file.py:flow",
        "no_such_module_anywhere:flow",
        "no.such.module:flow",
        "time:day",  # built in: it has no file
        ".relative:flow",
        "..:flow",
        "a b:flow",
        "\0:flow",
        "json\n:flow",
        "/etc/passwd:flow",
        "/:flow",
    ],
    ids=repr,
)
def test_what_is_no_target_is_a_usage_error(target: str) -> None:
    with pytest.raises((KitaruUsageError, KitaruRuntimeError)):
        code.load_flow(target)


@pytest.mark.parametrize("name", ["double", "Holder", "value", "missing", "Holder.missing", "doubled.fn"])
def test_a_name_that_is_no_flow_is_refused_with_the_flows_there(tmp_path: Path, name: str) -> None:
    file = source(tmp_path / "named.py")
    with pytest.raises(KitaruUsageError, match=r"flows there: doubled"):
        code.load_flow(f"{file}:{name}")


@pytest.mark.parametrize(
    "text", ["raise ValueError('at import')", "import sys; sys.exit(3)", "def broken(:", "import no_such"]
)
def test_a_file_that_cannot_be_loaded_is_a_runtime_error_that_names_it(tmp_path: Path, text: str) -> None:
    file = source(tmp_path / "failing_agent.py", text)
    with pytest.raises(KitaruRuntimeError, match="failing_agent") as raised:
        code.load_flow(f"{file}:doubled")
    assert raised.value.code == "not-loadable"


# --- unguarded scripts -------------------------------------------------------------------------------------------------

UNGUARDED = SIMPLE + "\nhandle = doubled.run(5)\n"


def test_a_run_while_its_file_is_loaded_names_the_guard(tmp_path: Path, log: EventLog) -> None:
    file = source(tmp_path / "unguarded.py", UNGUARDED)
    with pytest.raises(KitaruUsageError, match="__main__") as raised:
        code.load_flow(f"{file}:doubled")
    assert raised.value.code == "unguarded-script"
    assert log.last_position() == 0


def test_an_unguarded_script_is_refused_every_time(tmp_path: Path, log: EventLog) -> None:
    file = source(tmp_path / "unguarded2.py", UNGUARDED)
    trust.trust_tree(log.store_id, str(tmp_path))
    exec_id = recorded_in(log, file)
    for _ in range(2):
        with pytest.raises(KitaruUsageError, match="__main__"):
            recovery.take_over(log, exec_id)
    assert len(events_of(log, exec_id)) == 1


def test_an_unguarded_module_in_a_package_is_refused_every_time(tmp_path: Path) -> None:
    source(tmp_path / "unguarded_package" / "__init__.py", "")
    file = source(tmp_path / "unguarded_package" / "agent.py", UNGUARDED)
    for _ in range(2):
        with pytest.raises(KitaruUsageError, match="__main__"):
            code.load_flow(f"{file}:doubled")


def test_a_run_that_a_script_catches_starts_nothing(tmp_path: Path, log: EventLog) -> None:
    caught = SIMPLE + "\ntry:\n    doubled.run(5)\nexcept Exception:\n    pass\n"
    code.load_flow(f"{source(tmp_path / 'catching.py', caught)}:doubled")
    assert log.last_position() == 0


# --- scripts -----------------------------------------------------------------------------------------------------------

CLASSY = """
from dataclasses import dataclass

@dataclass
class Finding:
    text: str
    score: float

class Failure(Exception):
    def __init__(self, message, finding):
        super().__init__(message)
        self.finding = finding

@checkpoint
def finds(text):
    note(f"finds {text}")
    return Finding(text, 0.5)

@checkpoint
def fails(finding):
    note("fails")
    raise Failure("no", finding)

@flow
def research(text: Finding) -> list:
    found = finds(text.text)
    assert type(found) is Finding, found
    try:
        fails(found)
    except Failure as failure:
        caught = failure.finding
    if os.environ.get("DIE"):
        os.kill(os.getpid(), 9)
    assert (type(caught), type(text)) == (Finding, Finding)
    return [found, caught, finds("again")]

if __name__ == "__main__":
    handle = research.run(Finding("x", 1.0))
    handle.wait(20)
"""


def test_a_scripts_own_classes_come_back_in_another_process(tmp_path: Path, store: Path) -> None:
    script = scripts.write(tmp_path / "code" / "agent7.py", CLASSY)
    assert scripts.run(script, store, env={"DIE": "1"}).returncode == -9
    log = open_log(resolve_store())
    (exec_id,) = recovery.lost_executions(log, "default")
    recover = scripts.write(tmp_path / "tools" / "recover.py", scripts.RECOVER, head=False)
    ended = scripts.run(recover, store, exec_id)
    assert ended.stdout.split() == [exec_id, "completed"], ended.stderr
    assert scripts.ledger(store) == ["finds x", "fails", "finds again"]


def test_events_of_a_script_name_its_real_file_and_digest(tmp_path: Path, store: Path, log: EventLog) -> None:
    script = scripts.write(tmp_path / "code" / "agent8.py", CLASSY)
    assert scripts.run(script, store).returncode == 0
    (recorded_,) = [r for r in log.tail() if isinstance(r.event, ExecutionStarted)]
    target = recorded_.event.target  # type: ignore[attr-defined]
    assert (target.file, target.qualname) == (str(script), "research")
    assert target.digest == code.file_digest(str(script))
