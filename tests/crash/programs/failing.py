"""Processes whose disk is full, reports errors, or forgets what was not synced."""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import threading
from collections.abc import Callable, Sequence
from typing import Any

from appending import Writer, random_batches
from saying import say

from kitaru import compose
from kitaru.compose import open_log
from kitaru.domain.errors import KitaruBackendError
from kitaru.domain.events import EventBase
from kitaru.domain.state import ExecutionState
from kitaru.settings import StoreChoice, resolve_store
from kitaru.store.log import EventLog, Head, OutcomeUnknown

TRIES = 3
BATCHES_AFTER = 5
CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000


class Account:
    """What a writer was told about each append: acknowledged, refused, or neither."""

    def __init__(self, log: EventLog) -> None:
        self.log = log
        self.acknowledged: dict[str, int] = {}
        self.refused: list[str] = []
        self.codes: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.log, name)

    def append(self, head: Head, events: Sequence[EventBase], state: ExecutionState, event_ids: Sequence[str]) -> Head:
        """Append as a runner does: what is unknown is tried again with the same ids."""
        is_unknown = False
        for _ in range(TRIES):
            try:
                after = self.log.append(head, events, state, event_ids)
            except OutcomeUnknown:
                is_unknown = True
                self.codes.append("unknown")
            except KitaruBackendError as error:
                self.codes.append(error.code)
                if not is_unknown:
                    self.refused += event_ids
                raise
            else:
                self.acknowledged[after.exec_id] = after.version
                return after
        raise KitaruBackendError("still unknown", code="outcome-unknown")

    def tell(self, **more: Any) -> None:
        say(acknowledged=self.acknowledged, refused=self.refused, codes=self.codes, **more)


def fill_until_refused(account: Account, writer: Writer, filler: int) -> None:
    """Append until the disk takes no more. Then: reading goes on, and the next append is refused as plainly."""
    while not account.codes:
        append_batch(writer, filler)
    for _ in range(3):
        append_batch(writer, filler)
    if account.acknowledged:
        read = [recorded.version for recorded in account.log.read(writer.exec_id)]
        assert read[: account.acknowledged[writer.exec_id]] == list(range(1, account.acknowledged[writer.exec_id] + 1))


def append_batch(writer: Writer, filler: int) -> None:
    """A call and its outcome, or an error of the store that is typed; then the writer stands where it stood."""
    try:
        writer.complete(writer.start_attempt(), facts=2, filler=filler)
    except KitaruBackendError:
        catch_up(writer)


def catch_up(writer: Writer) -> None:
    """As a recovered runner would: the head, and the state folded from the events."""
    from kitaru.domain.state import ABSENT, evolve

    state = ABSENT
    head = writer.log.head(writer.exec_id)
    for recorded in writer.log.read(writer.exec_id):
        state = evolve(state, recorded.event)  # type: ignore[arg-type]
    open_calls = [call for call in state.attempts if state.in_flight >> call & 1]
    writer.head = head._replace(state=state)
    for call in open_calls:
        try:
            writer.complete(call)
        except KitaruBackendError:
            writer.head = writer.log.head(writer.exec_id)._replace(state=state)
            return


def go_on(account: Account, writer: Writer) -> None:
    """There is room again."""
    catch_up(writer)
    before = writer.version
    for _ in range(BATCHES_AFTER):
        writer.complete(writer.start_attempt())
    assert writer.version == before + 2 * BATCHES_AFTER
    account.tell(exec_id=writer.exec_id, version=writer.version)


def grow_past(limit: int, filler: int) -> int:
    """No file of this process may grow past `limit` bytes, until it may."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    opening: str | None = None
    try:
        account = Account(open_log(resolve_store()))
        writer = Writer(account)  # type: ignore[arg-type]
    except KitaruBackendError as error:
        opening = error.code
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        account = Account(open_log(resolve_store()))
        writer = Writer(account)  # type: ignore[arg-type]
    else:
        fill_until_refused(account, writer, filler)
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    say(opening=opening)
    go_on(account, writer)
    return 0


def fill_small_disk(size: str, filler: int) -> int:
    """A file system of our own, in a mount namespace of our own, filled to the last byte; then something is removed."""
    os.mkdir("small")
    refusal = mount_private("small", size)
    if refusal is not None:
        say(not_permitted=refusal)
        return 0
    with open("small/ballast", "wb") as ballast:
        ballast.write(b"x" * 600_000)
    log = open_log(StoreChoice(os.path.abspath("small/store"), "the test's"))
    account = Account(log)
    writer = Writer(account)  # type: ignore[arg-type]
    fill_until_refused(account, writer, filler)
    os.unlink("small/ballast")
    go_on(account, writer)
    compose.close_logs()
    shutil.copytree("small/store", "store")
    return 0


def mount_private(path: str, size: str) -> str | None:
    """A tmpfs that only this process sees. Why not, where it may not."""
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    if libc.unshare(CLONE_NEWNS | (0 if user == 0 else CLONE_NEWUSER)):
        return f"unshare: {os.strerror(ctypes.get_errno())}"
    if user != 0:
        for name, line in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(line)
    private, recursive = 1 << 18, 1 << 14
    if libc.mount(None, b"/", None, private | recursive, None):
        return f"mount --make-rprivate /: {os.strerror(ctypes.get_errno())}"
    if libc.mount(b"none", path.encode(), b"tmpfs", 0, f"size={size}".encode()):
        return f"mount -t tmpfs: {os.strerror(ctypes.get_errno())}"
    return None


def with_errors(kinds: int, at: int, sticky: bool, batches: int) -> int:
    """The k-th write or sync of the store's files fails, alone or with all after it; the disk is mended a little later."""
    shim = ctypes.CDLL(None)
    log = open_log(resolve_store())
    account = Account(log)
    writer = Writer(account)  # type: ignore[arg-type]
    connection = log.writer._connection  # type: ignore[attr-defined]
    shim.crash_fail(kinds, ctypes.c_long(at), int(sticky))
    for _ in range(batches):
        append_batch(writer, 3_000)
    failed = shim.crash_failed()
    shim.crash_fail(0, ctypes.c_long(0), 0)
    is_discarded = log.writer._connection is not connection  # type: ignore[attr-defined]
    say(failed=failed, is_discarded=is_discarded)
    go_on(account, writer)
    return 0


def count_syncs(batches: int) -> int:
    """For each append: how many syncs before it returned, and how many writes of its were not synced then."""
    shim = ctypes.CDLL(None)
    writer = Writer(open_log(resolve_store()))
    writer.complete(writer.start_attempt())

    def measure(append: Callable[[], object]) -> tuple[int, int]:
        before = shim.crash_syncs()
        append()
        return shim.crash_syncs() - before, shim.crash_unsynced()

    for number in range(batches):
        started = measure(writer.start_attempt)
        completed = measure(lambda facts=number % 3: writer.complete(writer.head.state.calls, facts=facts))
        say(started=started, completed=completed)
    return 0


def count_syncs_of_threads(threads: int, batches: int) -> int:
    """Outcomes of several threads at once: syncs and acknowledgements of all of them."""
    shim = ctypes.CDLL(None)
    log = open_log(resolve_store())
    writers = [Writer(log) for _ in range(threads)]
    calls = [[writer.start_attempt() for _ in range(batches)] for writer in writers]
    before = shim.crash_syncs()
    working = [
        threading.Thread(target=lambda writer=writer, mine=mine: [writer.complete(call) for call in mine])
        for writer, mine in zip(writers, calls, strict=True)
    ]
    for thread in working:
        thread.start()
    for thread in working:
        thread.join()
    say(syncs=shim.crash_syncs() - before, outcomes=threads * batches, unsynced=shim.crash_unsynced())
    return 0


def forgetting(threads: int, seed: int, durable: str) -> int:
    """Append on a disk that keeps, in `durable`, only what was synced."""
    ctypes.CDLL(None).crash_remember(durable.encode())
    return random_batches(threads, seed)


