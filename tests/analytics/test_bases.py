"""The columnar base: which files there are, when they are used, and when they are thrown away."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager
from hashlib import blake2b
from pathlib import Path

import duckdb
import pytest

from kitaru.analytics import generations
from kitaru.analytics.bases import LIMITS, Limits
from kitaru.analytics.build import build
from kitaru.analytics.engine import close_statistics
from kitaru.analytics.generations import Family, Generation
from kitaru.compose import backup_store, close_logs, open_log, rebuild_store
from kitaru.settings import StoreChoice
from kitaru.store.log import EventLog, Reads
from kitaru.store.read import open_store
from tests.analytics.conftest import ALWAYS_NEW, BASED
from tests.analytics.counting import Place, counts, measured, raw
from tests.analytics.filling import end, log_metadata, run

_COLUMNS = "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE NOT internal ORDER BY ALL"
EAGER = Limits(small=0, few=0, part=10**9, gain=0, apart=False)
"""Every change is worth a newer base, which another process builds."""


@pytest.fixture
def log(folder: str) -> EventLog:
    return open_log(StoreChoice(folder, "of the test"))


@pytest.fixture
def place(log: EventLog, folder: str) -> Iterator[Place]:
    """A store with a base of three executions, one of them running."""
    for number in range(2):
        run(log, tags=("x",), metadata={"k": number})
    run(log, seconds=None)
    found = Place(log, folder, BASED)
    assert counts(found, "status") == {"completed": 2, "running": 1}
    yield found
    close_statistics()


def files(folder: str, family: str = "executions") -> list[Path]:
    return sorted((Path(folder) / "statistics").glob(f"{family}-*.duckdb"))


def in_use(folder: str) -> Generation | None:
    with open_store(folder).snapshot() as moment:
        return generations.find(moment, os.path.join(folder, "statistics"), "executions")


def next_base(folder: str, family: Family = "executions") -> Generation | None:
    reader = open_store(folder)
    try:
        return build(reader, generations.make_place(folder), family)
    finally:
        reader.close()


def test_only_the_owner_reads_a_base(place: Place, folder: str) -> None:
    (base,) = files(folder)
    assert stat.S_IMODE(base.stat().st_mode) == 0o600
    assert stat.S_IMODE(base.parent.stat().st_mode) == 0o700


def test_a_base_is_only_one_file(place: Place, folder: str) -> None:
    assert sorted(path.name for path in (Path(folder) / "statistics").iterdir()) == ["build.lock", files(folder)[0].name]


def test_a_question_writes_nothing_once_there_is_a_base(place: Place, folder: str) -> None:
    before = [(path.name, path.read_bytes()) for path in files(folder)]
    run(place.log)
    assert counts(place) == {(): 4}
    assert [(path.name, path.read_bytes()) for path in files(folder)] == before


def test_the_next_generation_holds_what_changed_and_what_did_not(place: Place, folder: str) -> None:
    run(place.log, tags=("y",), metadata={"k": 7})
    assert next_base(folder) is not None
    close_statistics()
    assert counts(place, ["tag", "metadata:k"]) == {("x", 0): 1, ("x", 1): 1, ("y", 7): 1, (None, None): 1}


def test_nothing_is_built_when_nothing_changed(place: Place, folder: str) -> None:
    before = files(folder)
    made = next_base(folder)
    assert made is not None
    assert [str(path) for path in before] == [made.path]


def test_the_newest_generation_and_the_one_before_are_kept(place: Place, folder: str) -> None:
    names = [files(folder)[0].name]
    for _ in range(3):
        run(place.log)
        made = next_base(folder)
        assert made is not None
        names.append(os.path.basename(made.path))
    assert {path.name for path in files(folder)} == set(names[-2:])


def test_who_has_an_old_generation_open_reads_on(place: Place, folder: str) -> None:
    for path in files(folder):
        path.unlink()
    run(place.log)
    assert counts(place, "status") == {"completed": 3, "running": 1}


def test_a_newer_generation_is_taken_up(place: Place, folder: str) -> None:
    eager = place._replace(limits=EAGER)
    for number in range(3):
        run(place.log)
        assert counts(eager, "status") == {"completed": 3 + number, "running": 1}
        next_base(folder)
        assert counts(eager, "status") == {"completed": 3 + number, "running": 1}


def test_a_base_fits_after_its_last_execution_was_deleted(place: Place, folder: str) -> None:
    head = run(place.log)
    base = next_base(folder)
    place.log.delete(head.exec_id)
    assert in_use(folder) == base
    assert counts(place) == {(): 3}


def test_a_base_whose_last_event_is_not_to_be_found_any_more_gives_way_to_the_one_before(place: Place, folder: str) -> None:
    before = in_use(folder)
    head = run(place.log, seconds=None)
    next_base(folder)
    place.log.delete(end(place.log, head, 9).exec_id)
    assert in_use(folder) == before
    assert counts(place) == {(): 3}


def test_deletions_do_not_hide_that_a_base_is_of_another_history(place: Place, folder: str, tmp_path: Path) -> None:
    kept, gone = run(place.log, seconds=None), run(place.log)
    backup_store(StoreChoice(folder, "of the test"), str(tmp_path / "backup"))
    run(place.log, "lost")
    end(place.log, kept, 9)
    assert next_base(folder) is not None
    log = restored(folder, tmp_path / "backup")
    log.delete(gone.exec_id)
    for head in [run(log, "another") for _ in range(4)]:  # where the base's last event was, there is none
        log.delete(head.exec_id)
    log.delete(end(log, kept, 9).exec_id)
    assert counts(Place(log, folder, BASED)) == {(): 3}


def restored(folder: str, backup: Path) -> EventLog:
    """A backup in a store's place, beside the bases of what was there."""
    close_logs()
    close_statistics()
    for name in ("kitaru.db", "kitaru.db-wal", "kitaru.db-shm"):
        Path(folder, name).unlink(missing_ok=True)
    shutil.copy(backup / "kitaru.db", folder)
    return open_log(StoreChoice(folder, "of the test"))


def test_a_restored_backup_discards_the_bases_of_the_future(place: Place, folder: str, tmp_path: Path) -> None:
    backup_store(StoreChoice(folder, "of the test"), str(tmp_path / "backup"))
    run(place.log, "lost")
    next_base(folder)
    there = Place(restored(folder, tmp_path / "backup"), folder, BASED)
    assert counts(there) == {(): 3}
    run(there.log, "another")
    run(there.log, "another")
    assert counts(there) == {(): 5}
    assert counts(there, flow="lost") == {(): 0}
    assert counts(there, flow="another") == {(): 2}


def test_a_store_that_was_restored_in_place_is_seen_by_who_has_it_open(folder: str, tmp_path: Path, log: EventLog) -> None:
    run(log)
    backup_store(StoreChoice(folder, "of the test"), str(tmp_path / "backup"))
    run(log)
    place = Place(log, folder, BASED)
    assert counts(place) == {(): 2}
    close_logs()
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "backup", folder)
    again = open_log(StoreChoice(folder, "of the test"))
    assert counts(place._replace(log=again)) == {(): 1}
    close_statistics()


def test_a_copied_store_that_goes_its_own_way_has_its_own_answers(place: Place, folder: str, tmp_path: Path) -> None:
    close_logs()
    copy = str(tmp_path / "copy")
    shutil.copytree(folder, copy)
    logs = {each: open_log(StoreChoice(each, "of the test")) for each in (folder, copy)}
    run(logs[folder], "original")
    run(logs[copy], "copy")
    for each in (folder, copy):
        next_base(each)
    shutil.copy(files(folder)[-1], Path(copy, "statistics"))
    close_statistics()
    assert counts(Place(logs[copy], copy, BASED), flow="copy") == {(): 1}
    assert counts(Place(logs[copy], copy, BASED), flow="original") == {(): 0}


def test_the_base_of_another_store_is_not_used(place: Place, folder: str, tmp_path: Path) -> None:
    other = str(tmp_path / "other")
    log = open_log(StoreChoice(other, "of the test"))
    run(log)
    shutil.copytree(Path(folder, "statistics"), Path(other, "statistics"))
    assert in_use(other) is None
    assert counts(Place(log, other, BASED)) == {(): 1}


@pytest.mark.parametrize("layout", [generations.LAYOUT - 1, generations.LAYOUT + 1])
def test_a_base_of_another_layout_is_not_used_and_is_built_anew(place: Place, folder: str, layout: int) -> None:
    close_statistics()
    (path,) = files(folder)
    other = path.with_name(path.name.replace(f"executions-{generations.LAYOUT}-", f"executions-{layout}-"))
    path.rename(other)
    other.write_bytes(b"of another layout")
    assert (in_use(folder), other.exists()) == (None, True)
    assert counts(place, ["status", "metadata:k"]) == {("completed", 0): 1, ("completed", 1): 1, ("running", None): 1}
    assert files(folder) == [path]


def test_a_base_that_lacks_a_column_is_thrown_away_and_built_anew(place: Place, folder: str) -> None:
    close_statistics()
    (path,) = files(folder)
    with duckdb.connect(str(path)) as base:
        base.execute("ALTER TABLE executions DROP COLUMN status")
    assert counts(place, "status") == {"completed": 2, "running": 1}
    close_statistics()
    with duckdb.connect(str(path), read_only=True) as base:
        assert base.execute("SELECT count(status) FROM executions").fetchall() == [(3,)]


TABLES_OF_LAYOUT = {1: "9773536f528bee58"}
"""A digest of every table's columns: where it changes, raise LAYOUT, and add the new one. Released layouts stay."""


def test_the_layout_is_raised_with_the_tables(place: Place, folder: str) -> None:
    next_base(folder, "steps")
    columns: list[tuple[str, ...]] = []
    for family in ("executions", "steps"):
        (path,) = files(folder, family)
        with duckdb.connect(str(path), read_only=True) as base:
            columns += base.execute(_COLUMNS).fetchall()
    digest = blake2b(repr(columns).encode(), digest_size=8).hexdigest()
    assert TABLES_OF_LAYOUT[generations.LAYOUT] == digest, columns


def test_rebuilt_read_models_discard_the_base(place: Place, folder: str) -> None:
    base = in_use(folder)
    assert base is not None
    rebuild_store(StoreChoice(folder, "of the test"))
    assert in_use(folder) is None
    assert counts(place, "status") == {"completed": 2, "running": 1}
    found = in_use(folder)
    assert found is not None
    assert found.path != base.path


@pytest.mark.parametrize("damage", ["emptied", "cut", "flipped", "replaced"])
def test_a_damaged_base_is_thrown_away_and_built_anew(place: Place, folder: str, damage: str) -> None:
    close_statistics()
    (path,) = files(folder)
    data = bytearray(path.read_bytes())
    if damage == "flipped":
        for at in range(3 * 4096, len(data), 4096):
            data[at + 100] ^= 0xFF
    path.write_bytes(
        {"emptied": b"", "cut": bytes(data[: len(data) // 2]), "flipped": bytes(data), "replaced": b"x" * 9}[damage]
    )
    assert counts(place, ["status", "metadata:k"]) == {("completed", 0): 1, ("completed", 1): 1, ("running", None): 1}


def test_what_a_killed_builder_left_is_removed_by_the_next(place: Place, folder: str) -> None:
    for name in (".building-1", ".building-1.wal"):
        Path(folder, "statistics", name).write_bytes(b"half")
    run(place.log)
    next_base(folder)
    assert not list(Path(folder, "statistics").glob(".building*"))


def test_what_was_deleted_or_erased_is_in_no_generation_that_is_made_after(place: Place, folder: str) -> None:
    secret = "canary-" * 5
    deleted = run(place.log, tags=(secret,), metadata={"k": secret, secret: 1})
    erased = run(place.log, metadata={"k": secret})
    next_base(folder)
    assert any(secret.encode() in path.read_bytes() for path in files(folder))
    place.log.delete(deleted.exec_id)
    place.log.erase(erased.exec_id, "me", 9)
    next_base(folder)
    assert not any(secret.encode() in path.read_bytes() for path in files(folder))
    assert len(files(folder)) == 1


def test_forgetting_removes_every_generation(place: Place, folder: str) -> None:
    generations.forget(folder)
    assert files(folder) == []
    assert counts(place, "status") == {"completed": 2, "running": 1}


def test_a_builder_whose_work_was_taken_away_fails_and_leaves_nothing(place: Place, folder: str) -> None:
    """Who deletes an execution does so while a builder may have read it."""

    class Taking:
        """A store whose third moment comes after somebody has deleted."""

        def __init__(self, reads: Reads) -> None:
            self.store_id, self.moments, self._reads = reads.store_id, 0, reads

        def snapshot(self) -> AbstractContextManager[Reads]:
            self.moments += 1
            if self.moments == 3:
                generations.forget(folder)
            return self._reads.snapshot()

    run(place.log)
    with pytest.raises(OSError, match="No such file"):
        build(Taking(place.log), os.path.join(folder, "statistics"), "executions")  # type: ignore[arg-type]
    assert [path.name for path in Path(folder, "statistics").iterdir()] == ["build.lock"]
    assert counts(place) == {(): 4}


def test_a_folder_that_cannot_be_written_is_asked_with_a_base_that_nobody_keeps(log: EventLog, folder: str) -> None:
    run(log)
    close_logs()
    Path(folder, "statistics").write_text("a file where the folder would be")
    reader = open_store(folder)
    assert counts(Place(reader, folder, BASED), "status") == {"completed": 1}  # type: ignore[arg-type]
    assert counts(Place(reader, folder, ALWAYS_NEW), "status") == {"completed": 1}  # type: ignore[arg-type]
    reader.close()
    close_statistics()


def test_a_small_store_has_no_base(log: EventLog, folder: str) -> None:
    run(log)
    assert counts(Place(log, folder, LIMITS)) == {(): 1}
    assert not Path(folder, "statistics").exists()


def test_a_key_that_was_asked_for_before_the_tail_is_counted_once(place: Place, folder: str) -> None:
    head = run(place.log, seconds=None, metadata={"rare": "a"})
    next_base(folder)
    close_statistics()
    assert counts(place, "metadata:rare") == {None: 3, "a": 1}
    end(place.log, head, 5)
    assert counts(place, "metadata:rare") == {None: 3, "a": 1}
    end(place.log, run(place.log, seconds=None, metadata={"rare": "b"}), 5)
    assert counts(place, ["metadata:rare", "status"], status="completed") == {
        (None, "completed"): 2, ("a", "completed"): 1, ("b", "completed"): 1,
    }  # fmt: skip


def test_a_key_of_the_base_is_followed_in_the_tail(log: EventLog, folder: str) -> None:
    for number in range(120):
        run(log, metadata={"tier": f"t{number % 3}", "n": number})
    place = Place(log, folder, BASED)
    assert counts(place, "metadata:tier") == {"t0": 40, "t1": 40, "t2": 40}
    run(log, metadata={"tier": "t0", "n": 0.5})
    run(log, metadata={"tier": 1})
    assert counts(place, "metadata:tier") == {"t0": 41, "t1": 40, "t2": 40, 1: 1}
    assert counts(place, where={"n": {"<": 1}}) == {(): 2}
    assert counts(place, ["tag", "metadata:tier"], where={"n": {">=": 118}}) == {(None, "t1"): 1, (None, "t2"): 1}
    assert counts(place, "metadata:tier", subject="checkpoints") == {}


@pytest.mark.parametrize("changed", [1, 20, 35, 40])
def test_only_what_changed_is_taken_from_the_tail(log: EventLog, folder: str, changed: int) -> None:
    heads = [run(log, seconds=None, tags=(f"t{number % 2}",), metadata={"k": number % 2}) for number in range(40)]
    place = Place(log, folder, BASED)
    asked = ("status", "tag", "metadata:k", ["status", "tag", "metadata:k"])
    assert counts(place, "status") == {"running": 40}
    end(log, heads[changed - 1], 9)
    log.delete(end(log, heads[-2], 9).exec_id)
    run(log)
    found = [counts(place, group_by) for group_by in asked]
    assert found[0] == {"running": 38, "completed": 2}
    assert found == [counts(place._replace(folder=None, limits=LIMITS), group_by) for group_by in asked]


def taken_off(log: EventLog, folder: str) -> Place:
    """A base of 120 executions, of which those at the beginning, and some all over it, have changed since."""
    heads = [
        run(log, f"f{number % 3}", seconds=None, tags=(f"t{number % 2}",), metadata={"n": 2**52 + number, "x": number / 4})
        for number in range(120)
    ]
    place = Place(log, folder, BASED)
    assert counts(place, "flow", where={"n": {">": 0}}) == dict.fromkeys(counts(place, "flow"), 40)
    for number in (0, 3, 40, 41, 119):
        end(log, heads[number], number * 7)
    log_metadata(log, heads[5], n=1, x=2, more="rare")
    log.delete(end(log, heads[70], 9).exec_id)
    run(log, metadata={"n": 5})
    return place


METRICS = ("a:step_count:sum", "b:metadata:n:sum", "c:metadata:n:count", "d:metadata:x:count", "e:duration:sum")


@pytest.mark.parametrize(
    "group_by", [(), "flow", "status", "tag", "metadata:n", "metadata:x", "metadata:more", "time:day", ["flow", "tag"]]
)
@pytest.mark.parametrize("metrics", [(), METRICS, (*METRICS, "f:metadata:x:sum", "g:duration:avg", "h:metadata:n:max")])
def test_what_changed_is_taken_off_a_base_to_the_last_digit(
    log: EventLog, folder: str, group_by: str | list[str], metrics: tuple[str, ...]
) -> None:
    place = taken_off(log, folder)
    for chosen in (
        {}, {"status": "running"}, {"tags": ["t1"]}, {"where": {"n": {">=": 2**52 + 60}}}, {"where": {"nobody": {"!=": 1}}},
    ):  # fmt: skip
        found = sorted(raw(place, group_by, metrics, **chosen), key=repr)
        assert found == sorted(raw(place._replace(folder=None, limits=LIMITS), group_by, metrics, **chosen), key=repr)


def test_a_sum_of_what_nobody_has_any_more_is_none(log: EventLog, folder: str) -> None:
    heads = [run(log, seconds=None, metadata={"n": number} if number < 4 else {"m": number}) for number in range(20)]
    place = Place(log, folder, BASED)
    assert measured(place, "n:metadata:n:sum", "c:metadata:n:count") == (6, 4)
    for head in heads[:4]:
        log.delete(end(log, head, 9).exec_id)
    assert measured(place, "n:metadata:n:sum", "c:metadata:n:count") == (None, 0)


def test_a_group_that_everything_left_is_gone(log: EventLog, folder: str) -> None:
    heads = [run(log, tags=("old",) if number < 4 else ("new",), seconds=None) for number in range(40)]
    place = Place(log, folder, BASED)
    assert counts(place, "tag") == {"old": 4, "new": 36}
    for head in heads[:4]:
        log.delete(end(log, head, 9).exec_id)
    assert counts(place, "tag") == {"new": 36}
    assert counts(place) == {(): 36}
