"""Stores with one thing damaged: what reading, going on and verifying say of each."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import traceback
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from saying import say

from kitaru import compose
from kitaru.client import KitaruClient
from kitaru.domain.errors import KitaruError
from kitaru.settings import StoreChoice

EVENTS = "SELECT number, version, position, type, v, event_id, digest, body, payload FROM events"
TABLES = (
    "streams", "blobs", "blob_uses", "executions", "execution_details", "execution_tags", "execution_metadata", "flows",
    "artifacts",
)  # fmt: skip
Wrong = list[str]


def tell_truth() -> int:
    """Everything that can be read of the undamaged store."""
    with KitaruClient("store") as client:
        exec_ids = [execution.exec_id for execution in client.executions.list()]
        say(truth={exec_id: read_all(client, exec_id) for exec_id in exec_ids})
    return 0


def examine(damages: list[list[dict[str, Any]]], truth_file: str, base: str, lost: dict[str, Any]) -> int:
    """For each of several damages, on a copy of the store `base`: what is wrong with what is said of it."""
    truth: dict[str, dict[str, Any]] = json.loads(Path(truth_file).read_text())
    rows = raw_rows(Path(base))
    for number, damage in enumerate(damages):
        folder = Path(f"damaged-{number}")
        shutil.copytree(base, folder)
        inflict(folder, damage)
        wrong: Wrong = []
        noticed: list[str] = []
        may_be_shorter = any(each["file"] != "kitaru.db" for each in damage)
        read(folder, truth, may_be_shorter, wrong, noticed)
        verify(folder, rows, may_be_shorter, wrong, noticed)
        go_on(folder, lost, wrong, noticed)
        say(number=number, wrong=wrong, noticed=noticed)
        compose.close_logs()
        shutil.rmtree(folder)
    return 0


def inflict(folder: Path, damage: list[dict[str, Any]]) -> None:
    for each in damage:
        with open(folder / each["file"], "r+b") as file:
            if "truncate" in each:
                file.truncate(each["truncate"])
            elif "zero" in each:
                file.seek(each["zero"])
                file.write(bytes(each["length"]))
            else:
                file.seek(each["bit"] // 8)
                (byte,) = file.read(1)
                file.seek(each["bit"] // 8)
                file.write(bytes([byte ^ 1 << each["bit"] % 8]))


def attempt(what: str, do: Callable[[], Any], wrong: Wrong, noticed: list[str]) -> Any:
    """The result; None after an error, which has to be one of ours, and no KeyError in disguise."""
    try:
        return do()
    except KitaruError as error:
        noticed.append(f"{what}: {type(error).__name__} {error.code}: {error.message}")
    except BaseException:
        wrong.append(f"{what} was no typed error: {traceback.format_exc()}")
    return None


def read(folder: Path, truth: dict[str, Any], may_be_shorter: bool, wrong: Wrong, noticed: list[str]) -> None:
    """Each execution is as it was, or it is an error; with a damaged WAL it may be as it was before its last commits."""
    client = attempt("opening", lambda: KitaruClient(folder), wrong, noticed)
    for exec_id, known in truth.items():
        found = attempt(f"reading {exec_id}", lambda exec_id=exec_id: read_all(client, exec_id), wrong, noticed)
        if found is None:
            continue
        is_shorter = len(found["events"]) < len(known["events"])
        if is_shorter and may_be_shorter:
            if found["events"] != known["events"][: len(found["events"])]:
                wrong.append(f"{exec_id} is not what it was at any time")
        elif found != known:
            changed = [name for name in known if found[name] != known[name]]
            wrong.append(f"{exec_id} has other {changed}, and no error said so: {difference(found, known)}")
    attempt("listing", lambda: client.executions.list(), wrong, noticed)
    attempt("closing", lambda: client.close(), wrong, noticed)


def difference(found: dict[str, Any], known: dict[str, Any]) -> str:
    for name, value in known.items():
        if isinstance(value, list):
            for one, other in zip(found[name], value, strict=False):
                if one != other:
                    return f"{one} instead of {other}"
        elif found[name] != value:
            return f"{found[name]} instead of {value}"
    return "length"


def read_all(client: KitaruClient, exec_id: str) -> dict[str, Any]:
    execution = client.executions.get(exec_id)
    return {
        "execution": execution.model_dump(mode="json"),
        "events": [event.model_dump(mode="json") for event in client.executions.events(exec_id)],
        "values": [client.artifacts.show(artifact.artifact_id) for artifact in execution.artifacts or ()],
    }


def verify(folder: Path, rows: dict[str, Any], may_be_shorter: bool, wrong: Wrong, noticed: list[str]) -> None:
    """Whatever differs in the tables is reported, and a differing event by its name."""
    report = attempt("verifying", lambda: compose.verify_store(StoreChoice(str(folder.absolute()), "")), wrong, noticed)
    if report is None:
        return
    noticed += [f"verify: {problem}" for problem in report.problems]
    if may_be_shorter:
        return
    try:
        found = raw_rows(folder)
    except (sqlite3.Error, UnicodeError):
        if report.is_whole:
            wrong.append("verify finds a store whole that SQLite cannot read")
        return
    changed = [table for table in rows if rows[table] != found[table]]
    if changed and report.is_whole:
        wrong.append(f"verify finds nothing, and these tables have changed: {changed}")
    names = {number: exec_id for number, exec_id, *_ in rows["streams"]}
    if report.is_whole or any(problem.kind == "file" for problem in report.problems):
        return
    text = "\n".join(" ".join(problem) for problem in report.problems)
    for event in set(rows["events"]) - set(found["events"]):
        exec_id, version = names[event[0]], event[1]
        if not (f"event {version} of execution {exec_id}" in text or f"{exec_id} version {version}" in text or is_after_named(text, exec_id, version)):
            wrong.append(f"verify does not name event {version} of {exec_id}: {text}")


def is_after_named(text: str, exec_id: str, version: int) -> bool:
    """Past the first broken link of a stream nothing can be told of the others."""
    return any(f"event {earlier} of execution {exec_id}" in text for earlier in range(1, version))


def raw_rows(folder: Path) -> dict[str, Any]:
    """The tables as SQLite gives them, without any of kitaru's code; what is in no seal and no fold is left out."""
    with closing(sqlite3.connect(f"{(folder / 'kitaru.db').absolute().as_uri()}?mode=ro", uri=True)) as connection:
        found: dict[str, Any] = {"events": connection.execute(EVENTS + " NOT INDEXED ORDER BY position").fetchall()}
        for table in TABLES:
            found[table] = connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall()
        return found


def go_on(folder: Path, lost: dict[str, Any], wrong: Wrong, noticed: list[str]) -> None:
    """The lost execution ends with its value, or an error says why not."""
    from kitaru.runtime import recovery
    from kitaru.runtime.handle import FlowHandle

    import flows

    def recover() -> Any:
        log = compose.open_log(StoreChoice(str(folder.absolute()), ""))
        runner = recovery.take_over(log, lost["exec_id"], flows.held)
        runner.join()
        if runner.error is not None:
            raise runner.error
        return FlowHandle(log, lost["exec_id"], flows.held, None).get()

    value = attempt("recovering", recover, wrong, noticed)
    if value is not None and value != lost["value"]:
        wrong.append(f"recovered to {value} instead of {lost['value']}")


def make_store(lost_file: str, in_wal: bool) -> int:
    """Some executions that ended, and one that its process left in the middle. in_wal: the later ones are only in the WAL."""
    import flows

    for name, inputs in (("branches", {"place": 3}), ("facts", {"length": 4})):
        getattr(flows, name).run(**inputs).wait(60)
    if in_wal:
        checkpoint()
    flows.gathered.run(width=2).wait(60)
    handle = flows.held.run(file=lost_file, before=3, after=2)
    log = compose.open_log(StoreChoice(os.environ["KITARU_STORE"], ""))
    while log.head(handle.exec_id).version < 2 + 2 * 3 + 1:
        log.changes.wait(log.changes.token(), 0.01)
    say(lost=handle.exec_id)
    if not in_wal:
        checkpoint()
    os._exit(0)


def checkpoint() -> None:
    """Everything into the database file; the WAL is empty."""
    with closing(sqlite3.connect("store/kitaru.db")) as connection:
        assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0)
