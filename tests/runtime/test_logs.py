"""What executions print and log is kept, by whom it was said, and goes where it went before."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import logging.config
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import checkpoint, flow
from kitaru.client import KitaruClient, LogEntry
from kitaru.domain import limits
from kitaru.runtime import capture, process
from kitaru.store.log import EventLog
from kitaru.testing import FakeClock
from tests.runtime.waiting import answer, gone_on, suspended

logger = logging.getLogger("an app")


def logs(exec_id: str, **asked: Any) -> list[LogEntry]:
    """The logs once its runner has left."""
    process.join_all()
    return KitaruClient().executions.logs(exec_id, **asked)


def said(exec_id: str, **asked: Any) -> list[str]:
    return [entry.message for entry in logs(exec_id, **asked)]


def by_call(exec_id: str) -> dict[str | None, list[str]]:
    found: dict[str | None, list[str]] = {}
    for entry in logs(exec_id):
        found.setdefault(entry.invocation_id, []).append(entry.message)
    return found


# --- who said it -------------------------------------------------------------------------------------------------------


@checkpoint
def talks(x: int) -> int:
    print("called with", x)
    sys.stderr.write(f"aside {x}\n")
    logger.warning("warned of %s", x)
    return x


@flow
def plain() -> int:
    print("begins")
    talks(1)
    talks.map([2, 3]).result()
    print("ends")
    return 0


def test_each_line_is_of_the_call_that_said_it() -> None:
    assert by_call(run(plain)) == {
        None: ["begins", "ends"],
        "talks": ["called with 1", "aside 1", "warned of 1"],
        "talks_2": ["called with 2", "aside 2", "warned of 2"],
        "talks_3": ["called with 3", "aside 3", "warned of 3"],
    }


def run(started: Any, *args: Any) -> str:
    handle = started.run(*args)
    with contextlib.suppress(Exception):
        handle.wait()
    return handle.exec_id


def test_an_entry_says_all_about_it(clock: FakeClock) -> None:
    exec_id = run(plain)
    body, printed, aside, warned = logs(exec_id)[:4]
    assert (body.checkpoint_name, body.invocation_id, body.call_id, body.attempt) == (None, None, None, None)
    assert (printed.checkpoint_name, printed.invocation_id, printed.attempt) == ("talks", "talks", 1)
    assert printed.call_id == f"{exec_id}.c1"
    assert [entry.level for entry in (body, printed, aside, warned)] == ["INFO", "INFO", "ERROR", "WARNING"]
    first = talks.fn.__code__.co_firstlineno
    assert [entry.lineno for entry in (printed, aside, warned)] == [first + 2, first + 3, first + 4]
    assert {(entry.module, entry.filename, entry.source) for entry in (body, printed, aside, warned)} == {
        ("test_logs", "test_logs.py", "step")
    }
    assert printed.timestamp.timestamp() == pytest.approx(clock.now() / 1_000_000, abs=60)


@checkpoint
async def talks_async(x: int) -> int:
    for n in range(3):
        print(f"{x}: {n}", end="")
        await asyncio.sleep(0)
        print(" done")
        await asyncio.sleep(0)
    return x


@flow
async def together() -> int:
    print("begins")
    await asyncio.gather(*(talks_async(x) for x in (1, 2, 3)), branch())
    return 0


async def branch() -> None:
    print("a branch of the body")
    await talks_async(4)


def test_calls_that_take_turns_on_one_loop_keep_their_lines_apart() -> None:
    found = by_call(run(together))
    assert found[None] == ["begins", "a branch of the body"]
    calls = sorted((lines for ident, lines in found.items() if ident is not None), key=str)
    assert calls == [[f"{x}: {n} done" for n in range(3)] for x in (1, 2, 3, 4)]


@checkpoint(runtime="isolated")
def talks_elsewhere(how: str) -> str:
    print("in a process of its own")
    logger.warning("warned there")
    print("and the end", end="")
    if how == "dies":
        sys.stdout.write("\n")
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "raises":
        raise ValueError(how)
    return how


@flow
def apart(how: str) -> str:
    return talks_elsewhere(how)


@pytest.mark.parametrize("how", ["returns", "raises", "dies"])
def test_an_isolated_call_says_what_it_said_before_its_end(how: str) -> None:
    found = logs(run(apart, how))
    assert [entry.message for entry in found] == ["in a process of its own", "warned there", "and the end"]
    assert {(entry.invocation_id, entry.attempt, entry.filename) for entry in found} == {
        ("talks_elsewhere", 1, "test_logs.py")
    }


@checkpoint(runtime="isolated", retries=1)
def tries_elsewhere(marker: str) -> None:
    print("tried")
    print("aside", file=sys.stderr)
    if not os.path.exists(marker):
        Path(marker).touch()
        raise ValueError("the first time")


@flow
def tried_elsewhere(folder: str) -> None:
    tries_elsewhere(f"{folder}/one")
    tries_elsewhere(f"{folder}/two")


def test_each_attempt_of_each_isolated_call_has_its_own_lines(tmp_path: Path) -> None:
    found = logs(run(tried_elsewhere, str(tmp_path)))
    assert [(entry.checkpoint_name, entry.invocation_id, entry.attempt, entry.level, entry.message) for entry in found] == [
        ("tries_elsewhere", call, attempt, *said)
        for call in ("tries_elsewhere", "tries_elsewhere_2")
        for attempt in (1, 2)
        for said in (("INFO", "tried"), ("ERROR", "aside"))
    ]


@checkpoint(retries=1)
def talks_twice(seen: list[int]) -> int:
    print(f"try {len(tries) + 1}")
    tries.append(1)
    if len(tries) == 1:
        raise ValueError("once")
    return 1


tries: list[int] = []


@flow
def again() -> int:
    return talks_twice([])


def test_each_attempt_has_its_own_lines() -> None:
    tries.clear()
    assert [(entry.message, entry.attempt) for entry in logs(run(again))] == [("try 1", 1), ("try 2", 2)]


@checkpoint
def with_a_thread() -> int:
    import contextvars

    context = contextvars.copy_context()
    own = threading.Thread(target=context.run, args=(print, "of a thread that has its context"))
    other = threading.Thread(target=print, args=("of one that has not",))
    for thread in (own, other):
        thread.start()
        thread.join()
    return 0


@flow
def threaded() -> int:
    return with_a_thread()


def test_a_thread_of_ones_own_is_heard_when_it_has_the_context() -> None:
    assert said(run(threaded)) == ["of a thread that has its context"]


# --- where it goes -----------------------------------------------------------------------------------------------------


def test_what_is_printed_goes_where_it_went_before(capsys: pytest.CaptureFixture[str]) -> None:
    @flow
    def loud() -> int:
        print("on stdout")
        print("part", end="", flush=True)
        sys.stdout.buffer.write(b" of bytes\n")
        sys.stdout.buffer.flush()
        sys.stdout.writelines(["a\n", "b\n"])
        print("on stderr", file=sys.stderr)
        return 0

    exec_id = run(loud)
    process.join_all()
    assert capsys.readouterr() == ("on stdout\npart of bytes\na\nb\n", "on stderr\n")
    assert said(exec_id) == ["on stdout", "part of bytes", "a", "b", "on stderr"]


def test_the_streams_are_what_they_were_once_nothing_runs() -> None:
    before = (sys.stdout, sys.stderr, logging.root.parent)
    run(plain)
    process.join_all()
    assert (sys.stdout, sys.stderr, logging.root.parent) == before


def test_a_stream_behind_a_tee_is_as_it_is() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), "utf-8", errors="backslashreplace")
    tee: Any = capture.Tee("stdout", stream)
    assert (tee.encoding, tee.errors, tee.closed, tee.isatty()) == ("utf-8", "backslashreplace", False, False)
    tee.reconfigure(line_buffering=True)
    assert stream.line_buffering
    with contextlib.redirect_stdout(tee):
        print("outside of any flow")
    with pytest.raises(io.UnsupportedOperation):
        tee.fileno()
    with pytest.raises(TypeError):
        tee.write(b"no text")
    with pytest.raises(AttributeError):
        tee.nothing  # noqa: B018
    assert stream.buffer.getvalue() == b"outside of any flow\n"  # type: ignore[attr-defined]


def test_what_a_flow_redirects_is_its_own_affair() -> None:
    @flow
    def redirects() -> str:
        with contextlib.redirect_stdout(io.StringIO()) as kept:
            print("for itself")
        print("for all")
        return kept.getvalue()

    handle = redirects.run()
    assert handle.wait() == "for itself\n"
    assert said(handle.exec_id) == ["for all"]


def test_nothing_outside_a_flow_is_kept(log: EventLog) -> None:
    @flow
    def slow() -> int:
        begun.set()
        assert go_on.wait(30)
        return 0

    begun, go_on = threading.Event(), threading.Event()
    handle = slow.run()
    assert begun.wait(30)
    print("of the main thread")
    logger.warning("of the main thread")
    go_on.set()
    handle.wait()
    assert said(handle.exec_id) == []


def test_a_process_without_streams_runs_flows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)

    @flow
    def silent() -> int:
        print("nowhere")
        logger.warning("heard all the same")
        return 0

    assert said(run(silent)) == ["heard all the same"]


# --- what is written, in every shape -----------------------------------------------------------------------------------

SHAPES: dict[str, tuple[list[str], list[str]]] = {
    "pieces": (["a", "b", "\n", "c\nd", "e\n"], ["ab", "c", "de"]),
    "no end": (["a"], ["a"]),
    "empty lines": (["\n\na\n\n"], ["", "", "a", ""]),
    "windows": (["a\r\nb\r", "\nc"], ["a", "b", "c"]),
    "a progress bar": (["\r 10%", "\r 20%\r 30%", "\r100%\n", "done\n"], ["100%", "done"]),
    "a progress bar that ends its states": ([" 10%\r", " 20%\r", "100%\r\n"], ["100%"]),
    "surrogates": (["\ud800x\n"], ["\\ud800x"]),
    "nul and control characters": (["a\0b\x1b[31m\n"], ["a\0b\x1b[31m"]),
    "nothing": ([""], []),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_pieces_become_lines(shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces, lines = SHAPES[shape]
    monkeypatch.setattr(sys, "stdout", io.StringIO())

    @checkpoint
    def writes() -> int:
        for piece in pieces:
            sys.stdout.write(piece)
        return 0

    @flow
    def shaped() -> int:
        return writes()

    assert said(run(shaped)) == lines
    process.join_all()
    assert sys.stdout.getvalue() == "".join(pieces)  # type: ignore[attr-defined]


def test_threads_of_one_call_do_not_mix_their_lines() -> None:
    @checkpoint
    def writes() -> int:
        import contextvars

        def often(word: str) -> None:
            for _ in range(200):
                print(word, word, word)

        threads = [
            threading.Thread(target=contextvars.copy_context().run, args=(often, word)) for word in ("one", "two", "three")
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return 0

    @flow
    def mixed() -> int:
        return writes()

    found = said(run(mixed))
    assert sorted(found) == sorted(200 * ["one one one"] + 200 * ["two two two"] + 200 * ["three three three"])


def test_a_long_line_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    most = limits.MAX_LOG_LINE_BYTES

    @flow
    def long() -> int:
        print("x" * most)
        print("x" * (most + 7))
        for _ in range(100):
            sys.stdout.write("y" * 10_000)
        print()
        print("ü" * most)
        logger.error("z" * (3 * most))
        return 0

    whole, cut, pieces, wide, logged = said(run(long))
    assert whole == "x" * most
    assert cut == "x" * most + "… (7 bytes cut)"
    assert pieces == "y" * most + f"… ({1_000_000 - most} bytes cut)"
    assert wide.startswith("ü" * (most // 2) + "…")
    assert logged == "z" * most + f"… ({2 * most} bytes cut)"


def test_what_is_too_much_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    most = limits.MAX_LOG_LINES

    @checkpoint
    def floods() -> int:
        sys.stdout.write("line\n" * (most + 5))
        for _ in range(4):
            print("more")
        return 0

    @flow
    def flooded() -> int:
        floods()
        print("the body's own")
        return 0

    found = said(run(flooded))
    assert len(found) == most + 2
    assert found[-2:] == ["… 9 lines dropped", "the body's own"]


# --- logging -----------------------------------------------------------------------------------------------------------


def in_a_flow(body: Any) -> str:
    """Run it in a flow, with logging as a program begins with it: the test runner has handlers of its own on the root."""

    @flow
    def logged() -> int:
        body()
        return 0

    handlers, level = logging.root.handlers[:], logging.root.level
    logging.root.handlers[:] = []
    logging.root.setLevel(logging.WARNING)
    try:
        return run(logged)
    finally:
        process.join_all()
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)
        logger.handlers[:] = []
        logger.propagate = True


def test_what_no_handler_takes_is_printed_as_without_us(capsys: pytest.CaptureFixture[str]) -> None:
    def body() -> None:
        logger.info("below the root's level")
        logger.warning("on the last resort")

    exec_id = in_a_flow(body)
    assert said(exec_id) == ["on the last resort"]
    assert capsys.readouterr().err == "on the last resort\n"


def test_the_users_own_configuration_works_in_a_flow(capsys: pytest.CaptureFixture[str]) -> None:
    def body() -> None:
        assert not logger.hasHandlers()
        logging.basicConfig(level=logging.INFO, format="own format: %(message)s", stream=sys.stderr)
        logger.info("as configured")

    exec_id = in_a_flow(body)
    assert [(entry.level, entry.message) for entry in logs(exec_id)] == [("INFO", "as configured")]
    assert capsys.readouterr().err == "own format: as configured\n"


def test_a_configuration_that_replaces_the_roots_handlers_takes_nothing_away() -> None:
    def body() -> None:
        logging.config.dictConfig(
            {"version": 1, "disable_existing_loggers": False, "root": {"level": "DEBUG", "handlers": []}}
        )
        logger.debug("still heard")

    assert said(in_a_flow(body)) == ["still heard"]


def test_a_logger_that_keeps_to_itself_is_heard_by_what_its_handlers_print(capsys: pytest.CaptureFixture[str]) -> None:
    def body() -> None:
        logger.propagate = False
        logger.addHandler(logging.StreamHandler(sys.stderr))
        logger.warning("kept to itself")

    found = logs(in_a_flow(body))
    assert [(entry.level, entry.message, entry.filename) for entry in found] == [
        ("WARNING", "kept to itself", "test_logs.py")
    ]
    assert capsys.readouterr().err == "kept to itself\n"


def test_a_logged_exception_is_one_entry_with_its_traceback() -> None:
    def body() -> None:
        try:
            raise ValueError("seen")
        except ValueError:
            logger.exception("it failed")

    (entry,) = logs(in_a_flow(body))
    assert entry.message.startswith("it failed\nTraceback")
    assert entry.message.endswith("ValueError: seen")


class Odd:
    def __str__(self) -> str:
        print("printed while it was formatted")
        raise RuntimeError("no text")


def test_what_cannot_be_formatted_hinders_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    found = said(in_a_flow(lambda: (logger.warning("%d things", "no number"), logger.warning(Odd()), print("after"))))
    assert found[0] == "%d things"
    assert found[-1] == "after"


# --- a body that runs again --------------------------------------------------------------------------------------------


@checkpoint
def quiet(x: int) -> int:
    return x


@flow
def asks() -> str:
    print("before the call")
    quiet(1)
    print("after the call")
    answered = kitaru.wait(name="w", schema=str, timeout=0)
    print("answered", answered)
    again = kitaru.wait(name="v", schema=str, timeout=0)
    print("and", again)
    return answered


def test_a_body_that_goes_on_says_nothing_twice(log: EventLog) -> None:
    exec_id = suspended(log, asks.run(), "w")
    assert said(exec_id) == ["before the call", "after the call"]
    answer(log, exec_id, "w", "yes")
    with pytest.raises(kitaru.KitaruStateError):
        gone_on(log, asks, exec_id)
    assert said(exec_id) == ["before the call", "after the call", "answered yes"]
    answer(log, exec_id, "v", "no")
    gone_on(log, asks, exec_id)
    assert said(exec_id) == ["before the call", "after the call", "answered yes", "and no"]


failures: list[int] = []


@checkpoint
def fails_first() -> int:
    failures.append(1)
    if len(failures) == 1:
        raise ValueError("first")
    return 1


@flow(retries=1)
def retried() -> int:
    print("begins")
    try:
        fails_first()
    except ValueError:
        print("failed")
        raise
    print("went well")
    return 1


def test_a_body_that_is_tried_again_says_what_is_new() -> None:
    failures.clear()
    assert said(run(retried)) == ["begins", "failed", "went well"]


@flow(retries=1)
async def retried_async() -> int:
    async def one(name: str) -> None:
        print(name, "begins")
        await asyncio.sleep(0)
        print(name, "ends")

    await asyncio.gather(one("a"), one("b"))
    failures.append(1)
    if len(failures) == 1:
        raise ValueError("first")
    return 1


def test_branches_that_run_again_say_nothing_twice() -> None:
    failures.clear()
    found = said(run(retried_async))
    assert sorted(found) == ["a begins", "a ends", "b begins", "b ends"]


# --- telemetry fails nothing -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["DROP TABLE logs", "ALTER TABLE logs RENAME COLUMN level TO other"])
def test_a_broken_log_table_fails_no_flow(log: EventLog, store: Path, damage: str) -> None:
    import sqlite3

    connection = sqlite3.connect(store / "kitaru.db")
    connection.execute(damage)
    connection.commit()
    connection.close()
    handle = plain.run()
    assert handle.wait() == 0
    process.join_all()
    if "DROP" in damage:
        assert KitaruClient().executions.logs(handle.exec_id) == []
    else:
        with pytest.raises(kitaru.KitaruLogRetrievalError, match="verify"):
            KitaruClient().executions.logs(handle.exec_id)


def test_an_unknown_source_is_told() -> None:
    exec_id = run(plain)
    with pytest.raises(kitaru.KitaruLogRetrievalError, match="'step' or 'runner'"):
        KitaruClient().executions.logs(exec_id, source="moon")


def test_a_fork_in_a_checkpoint_says_nothing_for_its_parent() -> None:
    found = said(run(forks))
    assert found == ["before", "after"]


@checkpoint
def forking() -> int:
    print("before")
    child = os.fork()
    if child == 0:
        print("in the child")
        os._exit(0)
    os.waitpid(child, 0)
    print("after")
    return 0


@flow
def forks() -> int:
    return forking()


# --- the runtime's own words -------------------------------------------------------------------------------------------


def test_the_runner_tells_what_it_did() -> None:
    failures.clear()
    exec_id = run(retried)
    told = said(exec_id, source="runner")
    assert told[0] == "retried started on the stack local"
    assert told[2:6] == [
        "attempt 1 of fails_first started",
        "attempt 1 of fails_first failed: ValueError: first",
        "retried by flow",
        "attempt 2 of fails_first started",
    ]
    assert told[-1] == "completed"
    assert {entry.source for entry in logs(exec_id, source="runner")} == {"runner"}


@flow
def strange() -> int:
    kitaru.runtime.runner.logger.warning("a word of the runtime")  # type: ignore[attr-defined]
    return 0


def test_a_word_of_the_runtime_is_no_line_of_the_flow() -> None:
    exec_id = run(strange)
    assert said(exec_id) == []
    assert "a word of the runtime" in said(exec_id, source="runner")
