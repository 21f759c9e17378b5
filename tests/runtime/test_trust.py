"""From where code is loaded for a recorded execution, and from where it never is (R27)."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru.domain.errors import KitaruRuntimeError, KitaruUsageError
from kitaru.domain.events import Target
from kitaru.runtime import code, process, recovery, trust
from kitaru.store.log import EventLog
from tests.runtime.crashing import PATIENCE
from tests.runtime.records import events_of
from tests.runtime.targets import SIMPLE, recorded, recorded_in, source, status_after

pytestmark = pytest.mark.usefixtures("loaded_modules")

# --- recorded targets and trust ----------------------------------------------------------------------------------------


def test_running_a_flow_trusts_the_folder_of_its_file_alone(tmp_path: Path, log: EventLog) -> None:
    file = source(tmp_path / "home" / "agent3.py")
    code.load_flow(f"{file}:doubled").run(1).wait(PATIENCE)
    assert trust.is_trusted(log.store_id, str(file.parent / "other.py"))
    assert not trust.is_trusted(log.store_id, str(file.parent / "below" / "other.py"))
    assert not trust.is_trusted(log.store_id, str(tmp_path / "other.py"))


def test_the_list_stands_in_the_config_folder_for_its_user_alone(tmp_path: Path, log: EventLog) -> None:
    file = source(tmp_path / "home" / "agent4.py")
    code.load_flow(f"{file}:doubled").run(1).wait(PATIENCE)
    listed = tmp_path / "config" / "trust.json"
    assert json.loads(listed.read_text()) == {log.store_id: {"folders": [str(file.parent)], "trees": []}}
    assert (listed.stat().st_mode & 0o777, listed.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_an_execution_from_a_trusted_folder_is_recovered(tmp_path: Path, log: EventLog) -> None:
    file = source(tmp_path / "trusted_agent.py")
    trust.trust_tree(log.store_id, str(tmp_path))
    assert status_after(log, recorded_in(log, file)) == "completed"


def test_an_execution_from_elsewhere_is_refused_and_stays_as_it_was(tmp_path: Path, log: EventLog) -> None:
    file = source(tmp_path / "untrusted_agent.py", "raise SystemExit('it ran')")
    exec_id = recorded_in(log, file)
    with pytest.raises(KitaruRuntimeError, match=f"kitaru trust {tmp_path}") as raised:
        recovery.take_over(log, exec_id)
    assert raised.value.code == "not-trusted"
    assert len(events_of(log, exec_id)) == 1


def test_a_trusted_tree_covers_what_is_below_it(tmp_path: Path, log: EventLog) -> None:
    trust.trust_tree(log.store_id, str(tmp_path))
    assert trust.is_trusted(log.store_id, str(tmp_path / "a" / "b" / "agent.py"))
    assert not trust.is_trusted(log.store_id, str(tmp_path) + "-beside/agent.py")
    assert not trust.is_trusted(log.store_id, str(tmp_path / ".." / "agent.py"))


def test_trust_for_one_store_is_none_for_another(tmp_path: Path, log: EventLog) -> None:
    trust.trust_tree("another store", str(tmp_path))
    assert not trust.is_trusted(log.store_id, str(tmp_path / "agent.py"))


def test_a_symlink_in_a_trusted_folder_does_not_open_where_it_leads(tmp_path: Path, log: EventLog) -> None:
    (tmp_path / "trusted").mkdir()
    elsewhere = source(tmp_path / "elsewhere" / "agent.py", "raise SystemExit('it ran')")
    (tmp_path / "trusted" / "agent.py").symlink_to(elsewhere)
    (tmp_path / "trusted" / "folder").symlink_to(elsewhere.parent)
    trust.trust_tree(log.store_id, str(tmp_path / "trusted"))
    for file in (tmp_path / "trusted" / "agent.py", tmp_path / "trusted" / "folder" / "agent.py"):
        target = Target(file=str(file), qualname="doubled")
        with pytest.raises(KitaruRuntimeError, match="trust"):
            recovery.take_over(log, recorded(log, target))


def test_trusting_a_symlink_trusts_where_it_leads(tmp_path: Path, log: EventLog) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert trust.trust_tree(log.store_id, str(tmp_path / "link")) == str(tmp_path / "real")
    assert trust.is_trusted(log.store_id, str(tmp_path / "real" / "agent.py"))


def test_trusting_what_is_no_folder_is_refused(tmp_path: Path, log: EventLog) -> None:
    with pytest.raises(KitaruUsageError, match="not a folder"):
        trust.trust_tree(log.store_id, str(tmp_path / "missing"))


def test_replaying_a_flow_trusts_the_folder_of_its_file(tmp_path: Path, log: EventLog) -> None:
    first = code.load_flow(f"{source(tmp_path / 'first' / 'agent7.py')}:doubled").run(2)
    assert first.wait(PATIENCE) == 4
    here = source(tmp_path / "moved" / "agent8.py")
    replayed = code.load_flow(f"{here}:doubled").replay(first.exec_id, from_="double")
    assert replayed.wait(PATIENCE) == 4
    assert trust.is_trusted(log.store_id, str(here))


def test_replaying_what_this_process_happens_to_have_loaded_trusts_nothing(tmp_path: Path, log: EventLog) -> None:
    file = source(tmp_path / "imported" / "agent9.py")
    code.load_flow(f"{file}:doubled")  # as an import does
    exec_id = recorded_in(log, file)
    recovery.recover(log, [exec_id])[0].join()
    replayed = kitaru.KitaruClient().executions.replay(exec_id, from_="double")
    process.join_all()
    assert log.head(replayed.exec_id).state.status == "completed"
    assert not trust.is_trusted(log.store_id, str(file))


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "5", '{"s": 5}', '{"s": {"folders": 5, "trees": []}}', '{"s": {}}', "\x00", '{"s": {"folders": [5]}}'],
)
def test_a_damaged_list_is_a_typed_error_that_names_it(tmp_path: Path, log: EventLog, text: str) -> None:
    (tmp_path / "config").mkdir(exist_ok=True)
    (tmp_path / "config" / "trust.json").write_text(text.replace('"s"', json.dumps(log.store_id)))
    with pytest.raises(KitaruUsageError, match=r"trust\.json is damaged"):
        trust.is_trusted(log.store_id, str(tmp_path / "agent.py"))


def test_a_config_folder_that_cannot_be_written_is_a_typed_error(
    tmp_path: Path, log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KITARU_CONFIG_DIR", str(tmp_path / "file" / "config"))
    with pytest.raises(kitaru.KitaruError, match="KITARU_CONFIG_DIR"):
        trust.trust_tree(log.store_id, str(tmp_path))


def test_a_file_that_is_gone_is_refused_and_the_execution_stays_as_it_was(tmp_path: Path, log: EventLog) -> None:
    file = tmp_path / "gone_agent.py"
    trust.trust_tree(log.store_id, str(tmp_path))
    exec_id = recorded_in(log, file)
    with pytest.raises(KitaruRuntimeError, match=r"gone.* --target FILE\.py:doubled") as raised:
        recovery.take_over(log, exec_id)
    assert raised.value.code == "not-loadable"
    assert len(events_of(log, exec_id)) == 1


def test_a_renamed_flow_is_refused_with_the_flows_there(tmp_path: Path, log: EventLog) -> None:
    file = source(tmp_path / "renamed_agent.py")
    trust.trust_tree(log.store_id, str(tmp_path))
    exec_id = recorded_in(log, file, "old_name")
    with pytest.raises(KitaruRuntimeError, match="flows there: doubled") as raised:
        recovery.take_over(log, exec_id)
    assert raised.value.code == "not-loadable"
    assert len(events_of(log, exec_id)) == 1


def test_a_target_given_by_hand_names_another_place(tmp_path: Path, log: EventLog) -> None:
    exec_id = recorded_in(log, tmp_path / "gone" / "agent.py")
    moved = source(tmp_path / "moved" / "agent5.py")
    (runner,) = recovery.recover(log, [exec_id], f"{moved}:doubled")
    runner.join()
    assert log.head(exec_id).state.status == "completed"


def test_a_recovered_execution_is_given_as_a_list_gives_it(tmp_path: Path, log: EventLog) -> None:
    exec_id = recorded_in(log, source(tmp_path / "listed_agent.py"))
    trust.trust_tree(log.store_id, str(tmp_path))
    (found,) = kitaru.KitaruClient().executions.recover(exec_id[:30])
    assert (found.exec_id, found.checkpoints, found.artifacts) == (exec_id, None, None)


def test_a_changed_file_is_allowed(tmp_path: Path, log: EventLog) -> None:
    file = source(tmp_path / "changed_agent.py", SIMPLE + "\n# changed\n")
    trust.trust_tree(log.store_id, str(tmp_path))
    assert status_after(log, recorded_in(log, file)) == "completed"


def test_a_flow_of_a_shell_goes_on_in_its_own_process(log: EventLog) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile("from kitaru import flow\n@flow\ndef shelled(x): return x", "<stdin>", "exec"), namespace)
    assert status_after(log, recorded(log, Target(file=None, qualname="shelled"), x=4)) == "completed"


def test_a_target_without_a_file_never_finds_a_flow_of_a_file(tmp_path: Path, log: EventLog) -> None:
    """A store from elsewhere must not start a flow of this process that it can only guess the name of."""
    code.load_flow(f"{source(tmp_path / 'guessed.py')}:doubled")
    with pytest.raises(KitaruRuntimeError, match="shell"):
        recovery.take_over(log, recorded(log, Target(file=None, qualname="doubled"), x=4))


# --- no code from data (R27) -------------------------------------------------------------------------------------------

POISON = [
    Target(file=None, qualname="os.system"),
    Target(file="/etc/passwd", qualname="doubled"),
    Target(file="relative.py", qualname="doubled"),
    Target(file="os", qualname="system"),
    Target(file="", qualname=""),
    Target(file="{canary}", qualname="doubled"),
    Target(file="{canary}/../canary.py", qualname="doubled"),
    Target(file="{canary}", qualname="__import__('os').system('true')"),
    Target(file="\0", qualname="doubled"),
    Target(file="{canary}\0", qualname="doubled"),
    Target(file="https://example.com/agent.py", qualname="doubled"),
]

audited: list[tuple[str, Any]] | None = None


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if audited is not None and event in ("import", "exec", "compile", "os.system", "subprocess.Popen", "open", "os.exec"):
        audited.append((event, args))


_hooked = False


@pytest.fixture
def audit() -> Iterator[list[tuple[str, Any]]]:
    """The interpreter's own reports of what could run code. A hook cannot be taken back, so it is set once."""
    global audited, _hooked
    if not _hooked:
        sys.addaudithook(_audit)
        _hooked = True
    yield (audited := [])
    audited = None


@pytest.mark.parametrize("target", POISON, ids=lambda target: repr((target.file, target.qualname)))
def test_a_poisoned_target_runs_and_imports_nothing(
    tmp_path: Path, log: EventLog, audit: list[tuple[str, Any]], target: Target
) -> None:
    canary = source(tmp_path / "canary.py", f"open({str(tmp_path / 'sang')!r}, 'w')\n{SIMPLE}")
    file = None if target.file is None else target.file.replace("{canary}", str(canary))
    exec_id = recorded(log, Target(file=file, qualname=target.qualname))
    import_module("kitaru.runtime.replaying")  # what the first of these tests would be the first to need
    audit.clear()
    with pytest.raises((KitaruRuntimeError, KitaruUsageError)):
        recovery.take_over(log, exec_id)
    ours = str(tmp_path / "config")
    store = str(tmp_path / "store")
    suspicious = [each for each in audit if not (each[0] == "open" and str(each[1][0]).startswith((ours, store)))]
    assert suspicious == []
    assert not (tmp_path / "sang").exists()
    assert len(events_of(log, exec_id)) == 1


def test_a_copied_store_recovers_nothing_in_the_hands_of_another_user(
    tmp_path: Path, log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = source(tmp_path / "theirs" / "agent6.py", f"open({str(tmp_path / 'sang')!r}, 'w')\n{SIMPLE}")
    trust.trust_tree(log.store_id, str(file.parent))
    exec_id = recorded_in(log, file)
    monkeypatch.setenv("KITARU_CONFIG_DIR", str(tmp_path / "another users config"))
    with pytest.raises(KitaruRuntimeError, match="trust"):
        recovery.take_over(log, exec_id)
    assert not (tmp_path / "sang").exists()
