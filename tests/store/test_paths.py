"""R26: no name of data becomes a path. Whatever is called what, nothing appears outside the store's folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import KitaruClient
from kitaru.compose import backup_store, close_logs, open_log
from kitaru.domain import commands as c
from kitaru.domain import events as e
from kitaru.domain.errors import KitaruError, KitaruUsageError
from kitaru.domain.payload import Payload
from kitaru.runtime import process, recovery
from kitaru.settings import Configuration, StoreChoice, configured
from kitaru.store.log import EventLog
from kitaru.testing import append, call, start
from kitaru.testing.events import new_id, started

PATIENCE = 20.0
IN_A_STORE = {"kitaru.db", "kitaru.db-wal", "kitaru.db-shm", "write.lock", "rebuild.lock", "runners"}


@pytest.fixture(autouse=True)
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in which everything is that a test may reach: home, configuration, temporary files, the store."""
    for name in ("here", "home", "outside", "tmp", "deep/er"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "outside" / "precious.lock").write_text("precious")
    (tmp_path / "outside" / "precious.db").write_text("precious")
    (tmp_path / "here" / "link").symlink_to(tmp_path / "outside")
    monkeypatch.chdir(tmp_path / "here")
    for name, value in (("HOME", "home"), ("TMPDIR", "tmp"), ("KITARU_CONFIG_DIR", "config")):
        monkeypatch.setenv(name, str(tmp_path / value))
    for name in ("KITARU_STORE", "KITARU_SERVER_URL", "KITARU_PROJECT", "KITARU_CACHE", "XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KITARU_DURABILITY", "os")
    yield tmp_path
    process.join_all()
    close_logs()
    fresh = Configuration()
    for name in Configuration.__slots__:
        setattr(configured, name, getattr(fresh, name))


@pytest.fixture
def choice(world: Path) -> StoreChoice:
    return StoreChoice(str(world / "deep" / "er" / "store"), "of the test")


@pytest.fixture
def log(choice: StoreChoice) -> EventLog:
    return open_log(choice)


def tree(world: Path) -> dict[str, str]:
    """Everything outside the store and the configuration: files by their bytes, links by where they lead."""
    found: dict[str, str] = {}
    for folder, folders, files in os.walk(world):
        for name in (*folders, *files):
            path = Path(folder, name)
            kept = os.readlink(path) if path.is_symlink() else ""
            found[str(path.relative_to(world))] = kept or (sha256(path.read_bytes()).hexdigest() if path.is_file() else "")
        folders[:] = [each for each in folders if each not in ("store", "config")]
    return {name: what for name, what in found.items() if name.rpartition("/")[2] not in ("store", "config")}


def names_for(world: Path) -> list[str]:
    return [
        "..", ".", "../../../outside/escaped", str(world / "outside" / "escaped"), "link/escaped", "a/../../escaped",
        "~/escaped", "a\0b", "..\\escaped", "%2e%2e%2fescaped", "runners/escaped", "kitaru.db", "con\n", "\ud800",
        "$HOME/escaped", "`touch escaped`", "; touch escaped", "file:escaped", "x?mode=rwc", "x" * 256,
    ]  # fmt: skip


def with_a_flow(name: str) -> object:
    return kitaru.flow(name=name)(lambda: 1).run().wait(PATIENCE)


def with_a_checkpoint(name: str) -> object:
    def body() -> int:
        return 1

    body.__name__ = name
    step = kitaru.checkpoint(body)
    return kitaru.flow(lambda: step()).run().wait(PATIENCE)


def with_an_invocation_id(name: str) -> object:
    step = kitaru.checkpoint(lambda: 1)
    return kitaru.flow(lambda: step(id=name)).run().wait(PATIENCE)


def with_facts(name: str) -> object:
    def body() -> None:
        kitaru.save(name, name)
        kitaru.tag(name)
        kitaru.log(**{name: name})

    handle = kitaru.flow(body).run()
    handle.wait(PATIENCE)
    return kitaru.load(handle.exec_id, name)


def with_options(name: str) -> object:
    work = kitaru.flow(lambda: 1).options(tags=[name], metadata={name: name}, idempotency_key=name)
    return work.run().wait(PATIENCE)


def with_a_project(name: str) -> object:
    kitaru.configure(project=name)
    return kitaru.flow(lambda: 1).run().wait(PATIENCE)


def with_a_stack(name: str) -> object:
    return kitaru.flow(lambda: 1).run(stack=name).wait(PATIENCE)


def with_an_execution_id(name: str) -> object:
    client = KitaruClient()
    for use in (client.executions.get, client.executions.events, client.executions.delete, client.executions.recover):
        with pytest.raises((KitaruError, ValueError)):
            use(name)
    for look in (client.artifacts.get, client.artifacts.load):
        with pytest.raises((KitaruError, ValueError)):
            look(f"{name}.a3")
    with pytest.raises((KitaruError, ValueError)):
        kitaru.load(name, name)
    return True


WITH = (
    with_a_flow, with_a_checkpoint, with_an_invocation_id, with_facts, with_options, with_a_project, with_a_stack,
    with_an_execution_id,
)  # fmt: skip


@pytest.mark.parametrize("use", WITH, ids=lambda use: use.__name__)
def test_no_name_that_a_user_gives_becomes_a_path(use: Callable[[str], object], world: Path, choice: StoreChoice) -> None:
    kitaru.configure(store=choice.location)
    kitaru.flow(lambda: 1).run().wait(PATIENCE)
    before = tree(world)
    taken = 0
    for name in names_for(world):
        try:
            assert use(name)
            taken += 1
        except (KitaruError, ValueError):  # refused; NUL and lone surrogates also by SQLite's own check
            pass
    assert taken > 0 or use is with_a_stack
    assert tree(world) == before
    assert set(os.listdir(choice.location)) <= IN_A_STORE


def recorded_with(log: EventLog, name: str) -> str:
    """An execution all of whose names a store's author has chosen."""
    first = started(name, key=name, tags=(name,)).model_copy(
        update={"project": name, "stack": name, "flow_id": name, "target": e.Target(file=name, qualname=name, digest=name)}
    )
    head, _ = log.execute(new_id(), c.Start(first, name), 1)
    opened, done = call(1)
    saved = e.ArtifactSaved(at=1, key=name, name=name, kind="output", value=Payload.of(b'"' + b"1" * 20_000 + b'"', "k1"))
    head = append(log, head, opened.model_copy(update={"name": name, "invocation_id": name}), done, saved)
    return head.exec_id


def test_no_name_that_a_store_holds_becomes_a_path(world: Path, choice: StoreChoice, log: EventLog) -> None:
    before = tree(world)
    recorded = 0
    for name in names_for(world):
        try:
            exec_id = recorded_with(log, name)
        except (KitaruError, ValueError):
            continue
        recorded += 1
        client = KitaruClient(choice.location, project=name)
        assert client.executions.get(exec_id).runner != "alive"
        assert [found.flow_name for found in client.executions.list(name)] == [name]
        for artifact in client.executions.get(exec_id).artifacts or ():
            client.artifacts.show(artifact.artifact_id)
        with pytest.raises(KitaruError):
            recovery.take_over(log, exec_id)
        assert not log.leases.is_alive(name)
        client.close()
    assert recorded > 10
    assert tree(world) == before
    assert set(os.listdir(choice.location)) <= IN_A_STORE


def test_an_execution_id_of_a_stores_author_is_only_text(world: Path, choice: StoreChoice, log: EventLog) -> None:
    before = tree(world)
    for name in names_for(world):
        try:
            log.execute(name, c.Start(started("f"), None), 1)
        except (KitaruError, ValueError):
            continue
        with KitaruClient(choice.location) as client:
            assert all(found.flow_name == "f" for found in client.executions.list())
    assert tree(world) == before
    assert set(os.listdir(choice.location)) <= IN_A_STORE


# --- the store's own place, and a backup's -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a\0b", "\0", "", " "])
def test_a_store_whose_name_is_no_folder_is_refused(name: str, world: Path) -> None:
    before = tree(world)
    with pytest.raises(KitaruUsageError):
        KitaruClient(name)
    with pytest.raises(KitaruUsageError):
        kitaru.configure(store=name)
    assert tree(world) == before


def test_a_store_is_where_its_path_leads_and_nowhere_else(world: Path) -> None:
    before = tree(world)
    kitaru.configure(store=str(world / "here" / "missing" / ".." / ".." / "deep" / "store"))
    kitaru.flow(lambda: 1).run().wait(PATIENCE)
    assert (world / "deep" / "store" / "kitaru.db").is_file()
    assert tree(world) == before


LINKS: dict[str, Callable[[Path], object]] = {
    "kitaru.db": lambda outside: outside / "made",
    "kitaru.db of others": lambda outside: outside / "precious.db",
    "kitaru.db-wal": lambda outside: outside / "made",
    "write.lock": lambda outside: outside / "made",
    "rebuild.lock": lambda outside: outside / "made",
    "runners": lambda outside: outside / "made",
}


def use_store(location: str) -> None:
    """Open it for writing, and everything that makes files."""
    log: Any = open_log(StoreChoice(location, "of the test"))
    log.leases.acquire()
    append(log, start(log), *call(1))
    log.rebuild()


@pytest.mark.parametrize("what", LINKS)
def test_a_link_in_a_store_leads_nobody_outside(what: str, world: Path) -> None:
    """A store's folder came from elsewhere, and in the place of one of its files is a link."""
    store = world / "deep" / "store"
    store.mkdir()
    (store / what.partition(" ")[0]).symlink_to(str(LINKS[what](world / "outside")))
    before = tree(world)
    with pytest.raises(KitaruError):
        use_store(str(store))
    close_logs()
    assert tree(world) == before


def test_a_link_in_the_place_of_the_leases_makes_and_removes_nothing_where_it_leads(world: Path) -> None:
    store = world / "deep" / "store"
    store.mkdir()
    (store / "runners").symlink_to(world / "outside")
    before = tree(world)
    with suppress(KitaruError):
        use_store(str(store))
    during = tree(world)
    close_logs()
    assert (during, tree(world)) == (before, before)


@pytest.mark.parametrize(
    "target",
    [
        "a\0b",
        "",
        ".",
        "..",
        "link",
        "../outside",
        "../outside/precious.db",
        "../outside/precious.db/x",
        "dangling",
        "dangling/x",
    ],
)
def test_a_backup_goes_into_a_new_folder_or_nowhere(target: str, world: Path, choice: StoreChoice, log: EventLog) -> None:
    start(log)
    (world / "here" / "dangling").symlink_to(world / "nowhere")
    before = tree(world)
    with pytest.raises(KitaruError):
        backup_store(choice, target)
    assert tree(world) == before


@pytest.mark.parametrize("target", ["copy", "../copy", "link/copy", "a/b/../copy", "~", "%2e%2e"])
def test_a_backup_makes_its_folder_and_nothing_else(target: str, world: Path, choice: StoreChoice, log: EventLog) -> None:
    start(log)
    before = tree(world)
    folder = Path(os.path.abspath(target))
    backup_store(choice, target)
    made = {name for name in tree(world).keys() - before.keys() if not name.endswith("/kitaru.db")}
    assert os.listdir(folder) == ["kitaru.db"]
    assert all(folder.resolve().is_relative_to(world / name) for name in made)
    assert {name: what for name, what in tree(world).items() if name in before} == before
