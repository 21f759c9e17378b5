"""Processes that share a store and do everything that touches its files, beside those that only append."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import threading
import time
from contextlib import closing
from multiprocessing.synchronize import Barrier

from appending import Writer
from saying import say

from kitaru import compose
from kitaru.analytics.bases import Limits
from kitaru.analytics.build import build
from kitaru.analytics.engine import answer
from kitaru.analytics.generations import make_place
from kitaru.analytics.grammar import make_query
from kitaru.client import KitaruClient
from kitaru.settings import resolve_store
from kitaru.store.read import open_store
from kitaru.store.sqlite.log import SQLiteLog
from kitaru.testing.events import append, completed, start

TOUCHES = (
    "back_up", "open_and_close_a_log", "ask_a_client", "look_whether_it_exists", "verify", "measure", "ask_for_leases",
    "read_plainly", "ask_statistics", "build_a_base",
)  # fmt: skip


def back_up() -> None:
    """By the product's own backup; the copy is a store of its own."""
    target = f"backup-{os.getpid()}-{time.monotonic_ns()}"
    compose.backup_store(resolve_store(), target)
    with closing(sqlite3.connect(f"file:{target}/kitaru.db?mode=ro", uri=True)) as copy:
        assert copy.execute("PRAGMA quick_check").fetchone() == ("ok",)
    shutil.rmtree(target)


def open_and_close_a_log() -> None:
    log = SQLiteLog(resolve_store().location, compose.projectors())
    log.leases.acquire()
    log.last_position()
    log.close()


def ask_a_client() -> None:
    with KitaruClient() as client:
        client.info()
        for execution in client.executions.list(limit=3):
            client.executions.get(execution.exec_id)


def look_whether_it_exists() -> None:
    assert compose.store_exists(resolve_store())


def verify() -> None:
    assert compose.verify_store(resolve_store()).is_whole


def measure() -> None:
    compose.measure_store(resolve_store())


def ask_for_leases() -> None:
    compose.open_leases(resolve_store()).is_alive("00000000-0000-4000-8000-000000000000")


def read_plainly() -> None:
    """A plain reader is another connection of the same SQLite."""
    with closing(sqlite3.connect(f"file:{resolve_store().location}/kitaru.db?mode=ro", uri=True)) as connection:
        connection.execute("SELECT count(*) FROM events").fetchone()


def ask_statistics() -> None:
    """With a base, which a child process builds when anything has changed."""
    query = make_query("executions", "default", 0, {}, group_by="status")
    folder = resolve_store().location
    with closing(open_store(folder)) as reader:
        answer(reader, folder, query, limits=Limits(small=0, few=0, gain=0, far_behind=50))


def build_a_base() -> None:
    """In this very process."""
    folder = resolve_store().location
    with closing(open_store(folder)) as reader:
        build(reader, make_place(folder), "executions", waits=False)


def open_past_sqlite() -> None:
    """What must never happen in a process that has the store open: it drops the locks that SQLite holds."""
    with open(f"{resolve_store().location}/kitaru.db", "rb") as file:
        file.read(1)


def touch_and_append(touch: str, barrier: Barrier) -> int:
    """Append, touch the files, let the other process come and go, append again."""
    writer = Writer(compose.open_log(resolve_store()))
    writer.complete(writer.start_attempt())
    barrier.wait(30)  # the other has not begun
    globals()[touch]()
    barrier.wait(30)
    barrier.wait(30)  # the other has come and gone
    for _ in range(3):
        writer.complete(writer.start_attempt())
    say(exec_id=writer.exec_id, version=writer.version)
    return 0


def come_and_go(barrier: Barrier) -> int:
    """Open the store, append, and close it as a process does that believes to be the last."""
    barrier.wait(30)
    barrier.wait(30)
    log = compose.open_log(resolve_store())
    writer = Writer(log)
    writer.complete(writer.start_attempt())
    say(exec_id=writer.exec_id, version=writer.version)
    compose.close_logs()
    barrier.wait(30)
    return 0


def append_among_touches(seconds: float, seed: int, barrier: Barrier) -> int:
    """Threads append while others do, in any order, all that touches the files."""
    log = compose.open_log(resolve_store())
    writers = [Writer(log) for _ in range(2)]
    failures: list[BaseException] = []
    barrier.wait(30)
    end = time.monotonic() + seconds

    def guarded(do: object, *given: object) -> None:
        try:
            do(*given)  # type: ignore[operator]
        except BaseException as error:
            failures.append(error)
            raise

    def append(writer: Writer) -> None:
        while time.monotonic() < end:
            writer.complete(writer.start_attempt(), facts=2)
            time.sleep(0.002)

    def touch(number: int) -> None:
        chance = random.Random(f"{seed}.{number}")
        while time.monotonic() < end:
            globals()[chance.choice(TOUCHES)]()
            time.sleep(0.005)

    threads = [threading.Thread(target=guarded, args=(append, writer)) for writer in writers]
    threads += [threading.Thread(target=guarded, args=(touch, number)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for writer in writers:
        say(exec_id=writer.exec_id, version=writer.version)
    return 1 if failures else 0


def complete_in_turn(rounds: int, barrier: Barrier) -> int:
    """An execution that completes, and then the other's turn."""
    log = compose.open_log(resolve_store())
    for number in range(rounds):
        append(log, start(log, key=f"{number}"), completed())
        barrier.wait(60)
        barrier.wait(60)
    return 0


def count_in_turn(rounds: int, limits: dict[str, int], barrier: Barrier) -> int:
    """After each of them, how many have completed."""
    query = make_query("executions", "default", 0, {"status": "completed"})
    folder = resolve_store().location
    wrong: list[tuple[int, int]] = []
    barrier.wait(60)
    with closing(open_store(folder)) as reader:
        for number in range(1, rounds + 1):
            (group,) = answer(reader, folder, query, limits=Limits(**limits))
            if group.counted != number:
                wrong.append((number, group.counted))
            barrier.wait(60)
            if number < rounds:
                barrier.wait(60)
    say(wrong=wrong, bases=len([name for name in os.listdir(folder) if name == "statistics"]))
    return 0
