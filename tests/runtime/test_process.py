"""Processes that executions live in: they stay, they stop at a boundary, they go on in another one."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import checkpoint, flow
from kitaru.runtime import recovery
from kitaru.store.log import EventLog
from tests.runtime import scripts
from tests.runtime.crashing import PATIENCE
from tests.runtime.records import detail_of, types_of

STEPS = """
import threading

@checkpoint
def step(x):
    note(f"begin {x}")
    for _ in range(3000):
        if x != 2 or os.path.exists(LEDGER + ".open"):
            break
        time.sleep(0.01)
    note(f"end {x}")
    return x

@flow
def steps():
    return [step(1), step(2), step(3)]

def run_in_thread(what):
    thread = threading.Thread(target=what, daemon=True)
    thread.start()
    thread.join()
"""


def script(tmp_path: Path, body: str) -> Path:
    return scripts.write(tmp_path / "code" / "agent.py", body)


def until(what: Any, process: subprocess.Popen[str] | None = None) -> None:
    for _ in range(3000):
        if what():
            return
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.01)
    raise AssertionError("it never came")


def interrupt_in_step_2(process: subprocess.Popen[str], store: Path) -> None:
    until(lambda: "begin 2" in scripts.ledger(store), process)
    process.send_signal(signal.SIGINT)


def let_go(store: Path) -> None:
    (store.parent / "ledger.open").write_text("")


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def only_execution(log: EventLog) -> str:
    (exec_id,) = log.find_ids("")
    return exec_id


# --- R37 ---------------------------------------------------------------------------------------------------------------


def test_a_script_that_ends_in_run_completes(tmp_path: Path, store: Path, log: EventLog) -> None:
    body = """
    import asyncio, socket

    @checkpoint
    def square(x):
        return x * x

    @checkpoint
    async def lookup(name):
        await asyncio.sleep(0.05)
        found = await asyncio.get_running_loop().getaddrinfo(name, 80)
        return len(found) > 0

    @checkpoint
    def resolve(name):
        time.sleep(0.05)
        return len(socket.getaddrinfo(name, 80)) > 0

    @flow
    async def agent():
        await asyncio.sleep(0.2)   # the main thread has ended by now
        squares = await square.map(range(40))
        threaded = await asyncio.to_thread(sum, squares)
        note(f"{threaded} {await lookup('localhost')} {await resolve.submit('localhost')}")
        return threaded

    @flow
    def plain():
        time.sleep(0.2)
        note(f"plain {sum(square.map(range(10)).result())} {lookup.submit('localhost').result()}")

    if __name__ == "__main__":
        agent.run()
        plain.run()
    """
    done = scripts.run(script(tmp_path, body), store)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert sorted(scripts.ledger(store)) == ["20540 True True", "plain 285 True"]
    assert {log.head(exec_id).state.status for exec_id in log.find_ids("")} == {"completed"}


def test_exit_hooks_of_the_script_run_after_its_executions(tmp_path: Path, store: Path) -> None:
    body = """
    import atexit
    atexit.register(note, "exit hook")

    @flow
    def agent():
        time.sleep(0.2)
        note("flow")

    if __name__ == "__main__":
        agent.run()
        note("end of the script")
    """
    assert scripts.run(script(tmp_path, body), store).returncode == 0
    assert scripts.ledger(store) == ["end of the script", "flow", "exit hook"]


def test_a_script_that_fails_at_its_end_still_lets_its_execution_end(tmp_path: Path, store: Path, log: EventLog) -> None:
    body = """
    @flow
    def agent():
        time.sleep(0.2)

    if __name__ == "__main__":
        agent.run()
        sys.exit(7)
    """
    assert scripts.run(script(tmp_path, body), store).returncode == 7
    assert log.head(only_execution(log)).state.status == "completed"


# --- Ctrl-C ------------------------------------------------------------------------------------------------------------

WAYS = {
    "in wait": "steps.run().wait()",
    "after the script's end": "steps.run()",
    "in the script's own work": "steps.run(); time.sleep(60)",
    "in another thread's wait": "run_in_thread(lambda: steps.run().wait())",
    "after a start by another thread": "run_in_thread(steps.run)",
    "under asyncio.run": "import asyncio\n\nasync def main():\n    await steps.run()\n\nasyncio.run(main())",
    "under asyncio.run's end": "import asyncio\n\nasync def main():\n    steps.run()\n\nasyncio.run(main())",
}


def with_main(way: str) -> str:
    indented = "\n".join("    " + line for line in WAYS[way].splitlines())
    return f'{STEPS}\nif __name__ == "__main__":\n{indented}\n'


@pytest.mark.parametrize("way", WAYS)
def test_one_interrupt_stops_at_the_next_boundary_says_how_to_go_on_and_exits_130(
    tmp_path: Path, store: Path, log: EventLog, way: str
) -> None:
    process = scripts.start(script(tmp_path, with_main(way)), store)
    interrupt_in_step_2(process, store)
    time.sleep(0.1)
    let_go(store)
    code, _, err = ended(process)
    exec_id = only_execution(log)
    assert scripts.ledger(store) == ["begin 1", "end 1", "begin 2", "end 2"]
    assert types_of(log, exec_id)[-1] == "ExecutionSuspended"
    assert (code, f"kitaru recover {exec_id}" in err) == (130, True), err


def test_an_interrupted_execution_is_completed_by_recover(tmp_path: Path, store: Path, log: EventLog) -> None:
    process = scripts.start(script(tmp_path, with_main("in wait")), store)
    interrupt_in_step_2(process, store)
    assert process.stderr is not None
    until(lambda: "again" in process.stderr.readline(), process)  # it has seen it: the step may end
    let_go(store)
    ended(process)
    (exec_id,) = recovery.lost_executions(log, "default")
    recover = scripts.write(tmp_path / "tools" / "recover.py", scripts.RECOVER, head=False)
    done = scripts.run(recover, store, exec_id)
    assert done.stdout.split() == [exec_id, "completed"], done.stderr
    assert scripts.ledger(store) == [f"{edge} {x}" for x in (1, 2, 3) for edge in ("begin", "end")]


@pytest.mark.parametrize("way", ["in wait", "after the script's end"])
def test_two_interrupts_exit_at_once(tmp_path: Path, store: Path, log: EventLog, way: str) -> None:
    process = scripts.start(script(tmp_path, with_main(way)), store)
    interrupt_in_step_2(process, store)
    assert process.stderr is not None
    until(lambda: "again" in process.stderr.readline(), process)
    process.send_signal(signal.SIGINT)
    code, _, _ = ended(process)
    assert code == 130
    assert scripts.ledger(store)[-1] == "begin 2"
    assert recovery.lost_executions(log, "default") == [only_execution(log)]


def test_an_interrupt_without_executions_is_a_keyboard_interrupt(tmp_path: Path, store: Path) -> None:
    body = """
    @flow
    def quick():
        return 1

    if __name__ == "__main__":
        quick.run().wait(20)
        for attempt in range(2):
            try:
                note("waiting")
                time.sleep(60)
            except KeyboardInterrupt:
                note("caught")
    """
    process = scripts.start(script(tmp_path, body), store)
    for count in (1, 2):
        until(lambda count=count: scripts.ledger(store).count("waiting") == count, process)
        process.send_signal(signal.SIGINT)
        until(lambda count=count: scripts.ledger(store).count("caught") == count)
    assert ended(process)[0] == 0


def test_a_handler_of_the_users_own_is_left_alone(tmp_path: Path, store: Path, log: EventLog) -> None:
    body = (
        "import signal\nsignal.signal(signal.SIGINT, lambda *_: note('mine'))\n"
        + STEPS
        + '\nif __name__ == "__main__":\n    steps.run().wait(60)\n'
    )
    process = scripts.start(script(tmp_path, body), store)
    interrupt_in_step_2(process, store)
    until(lambda: "mine" in scripts.ledger(store), process)
    let_go(store)
    assert ended(process)[0] == 0
    assert log.head(only_execution(log)).state.status == "completed"


def test_an_interrupt_from_the_terminal_lets_an_isolated_body_end(tmp_path: Path, store: Path, log: EventLog) -> None:
    body = STEPS.replace("@checkpoint\ndef step", '@checkpoint(runtime="isolated")\ndef step')
    process = scripts.start(
        script(tmp_path, body + '\nif __name__ == "__main__":\n    steps.run().wait()\n'), store, start_new_session=True
    )
    until(lambda: "begin 2" in scripts.ledger(store), process)
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(0.1)
    let_go(store)
    code, _, err = ended(process)
    calls = detail_of(log, only_execution(log)).calls
    assert [call.status for call in calls.values()] == ["completed", "completed"], err
    assert code == 130


def test_a_killed_process_takes_its_isolated_bodies_with_it(tmp_path: Path, store: Path) -> None:
    body = """
    @checkpoint(runtime="isolated")
    def stays():
        note(str(os.getpid()))
        time.sleep(60)

    @flow
    def agent():
        stays()

    if __name__ == "__main__":
        agent.run()
    """
    process = scripts.start(script(tmp_path, body), store)
    until(lambda: scripts.ledger(store), process)
    process.kill()
    ended(process)
    until(lambda: not is_running(int(scripts.ledger(store)[0])))


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/status")
    return not status.exists() or "State:\tZ" not in status.read_text()


# --- deaths and forks --------------------------------------------------------------------------------------------------


def test_a_killed_processs_execution_is_lost_at_once_and_recovered(tmp_path: Path, store: Path, log: EventLog) -> None:
    process = scripts.start(script(tmp_path, with_main("in wait")), store)
    until(lambda: "begin 2" in scripts.ledger(store), process)
    exec_id = only_execution(log)
    assert recovery.lost_executions(log, "default") == []
    process.kill()
    ended(process)
    assert recovery.lost_executions(log, "default") == [exec_id]
    let_go(store)
    recover = scripts.write(tmp_path / "tools" / "recover.py", scripts.RECOVER, head=False)
    done = scripts.run(recover, store, exec_id)
    assert done.stdout.split() == [exec_id, "completed"], done.stderr
    assert scripts.ledger(store).count("begin 1") == 1


def test_an_execution_of_a_live_process_is_not_taken_over(tmp_path: Path, store: Path, log: EventLog) -> None:
    process = scripts.start(script(tmp_path, with_main("in wait")), store)
    until(lambda: "begin 2" in scripts.ledger(store), process)
    with pytest.raises(kitaru.KitaruStateError, match="live runner"):
        recovery.take_over(log, only_execution(log), flow(lambda: None))
    let_go(store)
    assert ended(process)[0] == 0


@checkpoint
def forks() -> list[int]:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            kitaru.log(child=True)
        except kitaru.KitaruUsageError:
            code = 42
        except BaseException:
            code = 2
        finally:
            os._exit(code)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])]


@checkpoint
def after(x: object) -> object:
    return x


@flow
def forking() -> list[object]:
    kitaru.log(before=1)
    return [forks(), after(5)]


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_in_a_checkpoint_cannot_record_and_does_not_disturb_the_parent(log: EventLog) -> None:
    handle = forking.run()
    assert handle.wait(PATIENCE) == [[42], 5]
    assert detail_of(log, handle.exec_id).metadata == {"before": 1}


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_using_a_handle_in_a_forked_child_is_a_usage_error(log: EventLog) -> None:
    handle = forking.run()
    handle.wait(PATIENCE)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            handle.wait(1)
        except kitaru.KitaruUsageError:
            code = 42
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 42


def test_a_run_in_a_forked_child_is_a_usage_error_and_the_parent_goes_on(tmp_path: Path, store: Path, log: EventLog) -> None:
    body = (
        STEPS
        + """

if __name__ == "__main__":
    first = steps.run()
    pid = os.fork()
    if pid == 0:
        try:
            steps.run()
        except kitaru.KitaruUsageError as error:
            note(f"child: {error}")
        os._exit(0)
    os.waitpid(pid, 0)
    first.wait(20)
"""
    )
    let_go(store)
    done = scripts.run(script(tmp_path, body), store, env={"PYTHONWARNINGS": "ignore"})
    assert (done.returncode, done.stderr) == (0, "")
    assert any(line.startswith("child: the store") and "forked" in line for line in scripts.ledger(store))
    assert log.head(only_execution(log)).state.status == "completed"
