"""The tools that change something, on real processes: what they begin, what they refuse, and whose code they load."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import pytest

from kitaru.client import Execution
from kitaru.mcp.children import Children
from kitaru.runtime.trust import trust_folder_of
from tests.mcp.conftest import Tools

pytestmark = pytest.mark.timeout(90)


def trusted_of(config: Path) -> str:
    path = config / "trust.json"
    return path.read_text() if path.exists() else ""


def is_left_waiting(found: Execution) -> bool:
    return found.status == "waiting" and found.runner == "none"


def test_a_run_returns_its_id_and_goes_on_by_itself(trusted: Tools) -> None:
    found = trusted.get("kitaru_executions_run", target="flows.py:sums", inputs={"a": 1, "b": 5}, tags=["x"])
    assert (found["command"], found["item"]["flow_name"], found["item"]["tags"]) == ("run", "sums", ["x"])
    ended = trusted.wait_for_end(found["item"]["exec_id"])
    assert (ended.status, ended.metadata) == ("completed", {"a": 1})
    assert ended.list_artifacts()[-1].load() == 7


def test_nothing_is_imported_from_the_folder_that_the_server_runs_in(
    trusted: Tools, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R27: an assistant starts the server in whatever checkout it looks at; nobody has trusted that."""
    elsewhere, canary = tmp_path / "elsewhere", tmp_path / "canary"
    elsewhere.mkdir()
    for module in ("orjson", "dataclasses", "pydantic", "sitecustomize"):
        (elsewhere / f"{module}.py").write_text(f"open({str(canary)!r}, 'w').close()")
    monkeypatch.chdir(elsewhere)
    found = trusted.get("kitaru_executions_run", target=f"{folder}/flows.py:sums", inputs={"a": 1})
    assert trusted.wait_for_end(found["item"]["exec_id"]).status == "completed"
    assert not canary.exists()


def test_the_same_key_gives_the_same_execution(trusted: Tools) -> None:
    first, second = (
        trusted.get("kitaru_executions_run", target="flows.py:sums", inputs={"a": 1}, idempotency_key="k") for _ in "12"
    )
    assert first["item"]["exec_id"] == second["item"]["exec_id"]


def test_inputs_may_be_larger_than_a_command_line(trusted: Tools) -> None:
    """Linux takes 128 KiB for one word."""
    found = trusted.get("kitaru_executions_run", target="flows.py:reads", inputs={"path": "x" * 1_000_000})
    assert trusted.wait_for_end(found["item"]["exec_id"]).status == "failed"


def test_a_flow_that_prints_and_exits_touches_nothing(trusted: Tools) -> None:
    found = trusted.get("kitaru_executions_run", target="flows.py:noisy")
    ended = trusted.wait_for_end(found["item"]["exec_id"])
    assert ended.status == "failed"
    assert ended.failure is not None
    assert ended.failure.exception_type.endswith("SystemExit")
    assert trusted.get("kitaru_executions_get", exec_id=ended.exec_id)["item"]["status"] == "failed"


def test_what_a_flow_prints_is_in_the_file_that_the_answer_names(trusted: Tools) -> None:
    found = trusted.get("kitaru_executions_run", target="flows.py:noisy")
    trusted.wait_for_end(found["item"]["exec_id"])
    output = Path(found["output_file"])
    trusted.wait_for(found["item"]["exec_id"], lambda _: output.stat().st_size > 1_000_000)
    assert output.stat().st_mode & 0o77 == 0


def test_a_detached_run_is_left_to_a_worker(trusted: Tools) -> None:
    found = trusted.get("kitaru_executions_run", target="flows.py:sums", inputs={"a": 1}, detach=True)
    assert (found["item"]["status"], found["item"]["runner"], found["item"]["stack_name"]) == ("running", "queued", "worker")


def test_an_answer_wakes_the_process_that_stays_for_it(trusted: Tools) -> None:
    exec_id = trusted.get("kitaru_executions_run", target="flows.py:stays")["item"]["exec_id"]
    trusted.wait_for(exec_id, lambda found: found.pending_wait is not None)
    found = trusted.get("kitaru_executions_input", exec_id=exec_id, wait="approve", value=21, by="ada")
    assert (found["item"]["waits"][0]["value"], found["item"]["waits"][0]["by"]) == (21, "ada")
    assert trusted.wait_for_end(exec_id).status == "completed"


def test_resume_goes_on_after_an_answer(trusted: Tools) -> None:
    exec_id = trusted.get("kitaru_executions_run", target="flows.py:asks")["item"]["exec_id"]
    trusted.wait_for(exec_id, is_left_waiting)
    assert "waits for input" in trusted.refusal("kitaru_executions_resume", exec_id=exec_id)[1]
    trusted.get("kitaru_executions_input", exec_id=exec_id[:13], wait="approve", value="21")  # JSON sent as text
    found = trusted.get("kitaru_executions_resume", exec_id=exec_id)
    assert found["command"] == "executions.resume"
    assert trusted.wait_for_end(exec_id).status == "completed"


def test_a_wait_given_up_cancels(trusted: Tools) -> None:
    exec_id = trusted.get("kitaru_executions_run", target="flows.py:asks")["item"]["exec_id"]
    trusted.wait_for(exec_id, is_left_waiting)
    found = trusted.get("kitaru_executions_abort_wait", exec_id=exec_id, wait="approve")
    assert (found["item"]["status"], found["item"]["waits"][0]["outcome"]) == ("cancelled", "aborted")


def test_cancel_ends_what_waits(trusted: Tools) -> None:
    exec_id = trusted.get("kitaru_executions_run", target="flows.py:asks")["item"]["exec_id"]
    trusted.wait_for(exec_id, is_left_waiting)
    assert trusted.get("kitaru_executions_cancel", exec_id=exec_id)["item"]["status"] == "cancelled"
    assert trusted.refusal("kitaru_executions_cancel", exec_id=exec_id)[0] == "state"


def test_retry_runs_what_failed_again(trusted: Tools, folder: Path) -> None:
    exec_id = trusted.get("kitaru_executions_run", target="flows.py:reads", inputs={"path": "late.txt"})["item"]["exec_id"]
    assert trusted.wait_for_end(exec_id).status == "failed"
    (folder / "late.txt").write_text("here")
    assert trusted.get("kitaru_executions_retry", exec_id=exec_id)["item"]["exec_id"] == exec_id
    assert trusted.wait_for(exec_id, lambda found: found.status == "completed").checkpoint_count == 1


def test_replay_starts_another_from_a_checkpoint(trusted: Tools) -> None:
    old = trusted.get("kitaru_executions_run", target="flows.py:sums", inputs={"a": 1})["item"]["exec_id"]
    trusted.wait_for_end(old)
    found = trusted.get("kitaru_executions_replay", exec_id=old, from_="add_2", overrides={"checkpoint.add_2": 100})
    new = trusted.wait_for_end(found["item"]["exec_id"])
    assert (new.original_exec_id, new.list_artifacts()[-1].load()) == (old, 100)
    assert "made no call 'nothing'" in trusted.refusal("kitaru_executions_replay", exec_id=old, from_="nothing")[1]


# --- whose code is loaded ------------------------------------------------------------------------------------------------


def test_a_folder_that_is_not_trusted_is_not_loaded(tools: Tools, folder: Path, tmp_path: Path) -> None:
    (folder / "flows.py").write_text("open('canary', 'w')\n" + (folder / "flows.py").read_text())
    code, message = tools.refusal("kitaru_executions_run", target="flows.py:sums", inputs={"a": 1})
    assert code == "not-trusted"
    assert f"kitaru trust {folder}" in message
    assert not (folder / "canary").exists()
    assert trusted_of(tmp_path / "config") == ""


def test_a_link_out_of_a_trusted_folder_is_not_followed(trusted: Tools, folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.py"
    elsewhere.write_text((folder / "flows.py").read_text())
    (folder / "linked.py").symlink_to(elsewhere)
    assert trusted.refusal("kitaru_executions_run", target="linked.py:sums", inputs={"a": 1})[0] == "not-trusted"
    assert trusted.refusal("kitaru_executions_run", target="../elsewhere.py:sums", inputs={"a": 1})[0] == "not-trusted"


def test_a_flow_that_a_trusted_file_imports_from_elsewhere_is_not_run(trusted: Tools, folder: Path, tmp_path: Path) -> None:
    """To run it would trust the folder it comes from."""
    (tmp_path / "other.py").write_text("from kitaru import flow\n@flow\ndef far(): pass\n")
    (folder / "near.py").write_text(f"import sys\nsys.path.append({str(tmp_path)!r})\nfrom other import far\n")
    before = trusted_of(tmp_path / "config")
    assert trusted.refusal("kitaru_executions_run", target="near.py:far")[0] == "not-trusted"
    assert trusted_of(tmp_path / "config") == before


def test_a_run_from_a_trusted_tree_trusts_nothing_more(trusted: Tools, tmp_path: Path) -> None:
    before = trusted_of(tmp_path / "config")
    trusted.wait_for_end(trusted.get("kitaru_executions_run", target="flows.py:sums", inputs={"a": 1})["item"]["exec_id"])
    assert trusted_of(tmp_path / "config") == before


@pytest.mark.parametrize("verb", ["resume", "retry", "replay"])
def test_going_on_loads_from_trusted_folders_only(
    trusted: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """Another user's list trusts nothing: the execution stays as it was."""
    target = "flows.py:asks" if verb == "resume" else "flows.py:reads"
    inputs = {} if verb == "resume" else {"path": "absent"}
    exec_id = trusted.get("kitaru_executions_run", target=target, inputs=inputs)["item"]["exec_id"]
    if verb == "resume":
        trusted.wait_for(exec_id, is_left_waiting)
        trusted.get("kitaru_executions_input", exec_id=exec_id, wait="approve", value=1)
    else:
        trusted.wait_for_end(exec_id)
    monkeypatch.setenv("KITARU_CONFIG_DIR", str(tmp_path / "theirs"))
    before = trusted.client.executions.events(exec_id)
    more = {"from_": "fragile"} if verb == "replay" else {}
    assert trusted.refusal(f"kitaru_executions_{verb}", exec_id=exec_id, **more)[0] == "not-trusted"
    assert trusted.client.executions.events(exec_id) == before
    assert len(trusted.client.executions.list()) == 1


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("flows:sums", "is no target; give FILE.py:flow"),  # finding a module runs the packages above it
        ("flows.py", "is no target"),
        ("flows.py:", "is no target"),
        ("none.py:sums", "there is no file none.py"),
        ("flows.py:absent", "flows there: asks, noisy, reads, stays, sums"),
        ("flows.py:add", "is not a flow"),
        ("flows.py:os.system", "is not a flow"),
        ("fl\x00ows.py:sums", "is no target"),
    ],
)
def test_a_target_that_is_none_is_refused(trusted: Tools, target: str, message: str) -> None:
    code, said = trusted.refusal("kitaru_executions_run", target=target)
    assert code == "usage"
    assert message in said


# --- what a file may do when it is loaded ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "code", "message"),
    [
        ("raise ValueError('mine')", "not-loadable", "ValueError: mine"),
        ("import sys; sys.exit(3)", "not-loadable", "SystemExit: 3"),
        ("import os; print('last words', flush=True); os._exit(3)", "not-started", "last words"),
        ("syntax error", "not-loadable", "SyntaxError"),
        ("import time; print('busy', flush=True); time.sleep(60)", "not-started", "busy"),
        ("print('x' * 1_000_000); from kitaru import flow\n@flow\ndef f(a): pass", "usage", "missing"),
    ],
)
def test_a_file_that_does_not_load_is_an_error_that_says_why(
    trusted: Tools, folder: Path, source: str, code: str, message: str
) -> None:
    (folder / "bad.py").write_text(source)
    slow = Tools(trusted.client, start_seconds=3.0 if "sleep" in source else 60.0)
    found = slow.refusal("kitaru_executions_run", target="bad.py:f")
    assert found[0] == code
    assert message in found[1]
    assert trusted.client.executions.list() == []


def test_a_child_is_in_a_session_of_its_own(trusted: Tools, folder: Path) -> None:
    (folder / "session.py").write_text(
        "import os\nfrom kitaru import flow, checkpoint\n@checkpoint\ndef where(): return os.getsid(0), os.getpid()\n"
        "@flow\ndef f(): return where()\n"
    )
    found = trusted.get("kitaru_executions_run", target="session.py:f")
    session, pid = trusted.wait_for_end(found["item"]["exec_id"]).list_artifacts()[0].load()  # type: ignore[misc]
    assert session == pid != os.getsid(0)


def test_children_leave_no_descriptors(trusted: Tools) -> None:
    trust_folder_of(trusted.client._access.log().store_id, "flows.py")
    children = Children()
    order = {"verb": "run", "store": trusted.client.store.location, "project": "default", "detach": True}
    counts = []
    for _ in range(4):
        children.begin({**order, "target": "flows.py:sums", "inputs": {"a": 1}, "options": {}})  # type: ignore[typeddict-item]
        counts.append(len(os.listdir("/proc/self/fd")))
    assert counts[0] == counts[-1]


def test_the_output_of_processes_goes_a_week_after_it_was_last_written(
    trusted: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))

    def made(name: str, *files: str, days: float) -> None:
        (temporary / name).mkdir()
        for place in (*(temporary / name / file for file in files), temporary / name):
            if place.suffix:
                place.write_text("said")
            os.utime(place, (time.time() - days * 86_400,) * 2)

    made("kitaru-mcp-gone", "run-1.log", "run-2.log", days=7.1)
    made("kitaru-mcp-fresh", "run-1.log", days=6.9)
    made("kitaru-mcp-kept", "run-1.log", "notes.txt", days=7.1)
    made("another", "run-1.log", days=100)
    (temporary / "kitaru-mcp-link").symlink_to(temporary / "another")
    trust_folder_of(trusted.client._access.log().store_id, "flows.py")
    children = Children()

    def begin() -> Path:
        """The file of a process that prints nothing."""
        order = {"verb": "run", "store": trusted.client.store.location, "project": "default", "detach": True}
        begun = children.begin({**order, "target": "flows.py:sums", "inputs": {"a": 1}, "options": {}})  # type: ignore[typeddict-item]
        return Path(begun.output_file)

    first, second = begin(), begin()
    left = sorted(str(path.relative_to(temporary)) for path in temporary.rglob("*") if path.suffix)
    own = sorted(str(path.relative_to(temporary)) for path in (first, second))
    assert left == sorted([*own, "another/run-1.log", "kitaru-mcp-fresh/run-1.log", "kitaru-mcp-kept/notes.txt"])
    assert not (temporary / "kitaru-mcp-gone").exists()

    os.utime(first, (0, 0))
    os.utime(first.parent, (0, 0))
    third = begin()
    assert (first.exists(), second.exists(), third.parent) == (False, True, second.parent)
