"""The folder of an export: what is refused, what is repaired, and that nobody ever sees half of it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kitaru.analytics.export.target import open_target
from kitaru.client import KitaruClient
from kitaru.compose import close_logs, open_log
from kitaru.domain.errors import KitaruBackendError, KitaruError, KitaruNotFoundError, KitaruStateError, KitaruUsageError
from kitaru.settings import StoreChoice
from kitaru.store.log import EventLog
from tests.analytics.exporting import export, ids_of
from tests.analytics.filling import run


@pytest.fixture
def log(folder: str) -> Iterator[EventLog]:
    yield open_log(StoreChoice(folder, "of the test"))
    close_logs()


@pytest.fixture
def client(log: EventLog) -> Iterator[KitaruClient]:
    with KitaruClient(log.location) as found:
        yield found


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def exported(log: EventLog, client: KitaruClient, target: Path) -> Path:
    """A folder with an export of one execution."""
    run(log)
    export(client, target)
    return target


def everything(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))
    }


def refusal(client: KitaruClient, target: Path, **asked: object) -> KitaruError:
    with pytest.raises(KitaruError) as refused:
        client.export(target, **asked)  # type: ignore[arg-type]
    return refused.value


def test_a_folder_with_something_else_in_it_is_refused(client: KitaruClient, target: Path) -> None:
    target.mkdir()
    (target / "precious.txt").write_text("mine")
    error = refusal(client, target)
    assert (type(error), error.code, everything(target)) == (KitaruUsageError, "export-target", {"precious.txt": b"mine"})


def test_a_file_is_refused(client: KitaruClient, target: Path) -> None:
    target.write_text("mine")
    error = refusal(client, target)
    assert (type(error), error.code, target.read_text()) == (KitaruUsageError, "export-target", "mine")


def test_a_name_with_a_nul_is_refused(client: KitaruClient) -> None:
    with pytest.raises(KitaruUsageError):
        client.export("out\0")


@pytest.mark.parametrize("place", ["/proc/kitaru-export", "/dev/null/kitaru-export"])
def test_a_folder_that_cannot_be_made_is_a_typed_error(client: KitaruClient, place: str) -> None:
    with pytest.raises(KitaruBackendError) as refused:
        client.export(place)
    assert refused.value.code == "export-unwritable"


def test_a_store_that_is_not_there_is_not_found(tmp_path: Path, target: Path) -> None:
    with KitaruClient(tmp_path / "nowhere") as client, pytest.raises(KitaruNotFoundError):
        client.export(target)
    assert not target.exists()


def test_another_stores_export_is_refused(exported: Path, tmp_path: Path) -> None:
    other = open_log(StoreChoice(str(tmp_path / "other"), "of the test"))
    run(other)
    before = everything(exported)
    with KitaruClient(other.location) as client:
        error = refusal(client, exported)
    assert (error.code, everything(exported)) == ("export-other-store", before)


def test_another_projects_export_is_refused(log: EventLog, exported: Path) -> None:
    with KitaruClient(log.location, project="other") as client:
        assert refusal(client, exported).code == "export-other-store"


def test_other_partitions_are_refused(client: KitaruClient, exported: Path) -> None:
    before = everything(exported)
    error = refusal(client, exported, partition_by="month")
    assert (type(error), error.code, everything(exported)) == (KitaruUsageError, "export-partitions", before)


def test_two_exports_at_once_are_refused(client: KitaruClient, exported: Path) -> None:
    with open_target(str(exported)):
        error = refusal(client, exported)
    assert (type(error), error.code) == (KitaruStateError, "export-running")
    client.export(exported)


def first_file(exported: Path) -> Path:
    return next((exported / ".export" / "1" / "executions").iterdir())


def remove_a_file(exported: Path) -> None:
    first_file(exported).unlink()


def cut_a_file(exported: Path) -> None:
    file = first_file(exported)
    file.write_bytes(file.read_bytes()[:-1])


def garble_the_manifest(exported: Path) -> None:
    (exported / ".export" / "1" / "manifest.json").write_bytes(b"\xff{")


def empty_the_manifest(exported: Path) -> None:
    (exported / ".export" / "1" / "manifest.json").write_bytes(b"{}")


def remove_the_manifest(exported: Path) -> None:
    (exported / ".export" / "1" / "manifest.json").unlink()


def remove_the_generation(exported: Path) -> None:
    shutil.rmtree(exported / ".export" / "1")


def misdirect_the_export(exported: Path) -> None:
    link = exported / ".export" / "current"
    link.unlink()
    link.symlink_to("../..")


def put_a_folder_in_place_of_a_table(exported: Path) -> None:
    (exported / "executions").unlink()
    (exported / "executions").mkdir()


def lead_out_of_the_folder(exported: Path) -> None:
    path = exported / ".export" / "1" / "manifest.json"
    manifest = json.loads(path.read_bytes())
    manifest["tables"]["executions"]["buckets"]["0"][0][0] = "../../../precious"
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "harm",
    [
        remove_a_file, cut_a_file, garble_the_manifest, empty_the_manifest, remove_the_manifest, remove_the_generation,
        misdirect_the_export, put_a_folder_in_place_of_a_table, lead_out_of_the_folder,
    ],
)  # fmt: skip
def test_an_export_that_is_not_as_it_was_left_is_refused(
    client: KitaruClient, exported: Path, harm: Callable[[Path], None]
) -> None:
    harm(exported)
    error = refusal(client, exported)
    assert (type(error), error.code) == (KitaruStateError, "export-damaged")


def test_a_folder_of_exports_that_is_a_link_is_refused(client: KitaruClient, target: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "1").mkdir()
    target.mkdir()
    (target / ".export").symlink_to(tmp_path / "elsewhere")
    assert refusal(client, target).code == "export-damaged"
    assert (tmp_path / "elsewhere" / "1").exists()


def test_an_export_of_a_later_format_is_refused(client: KitaruClient, exported: Path) -> None:
    path = exported / ".export" / "1" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "format": 2}))
    assert refusal(client, exported).code == "export-format"


def test_what_a_killed_export_left_is_removed(log: EventLog, client: KitaruClient, exported: Path) -> None:
    unfinished = exported / ".export" / "2.partial" / "executions"
    unfinished.mkdir(parents=True)
    (unfinished / "000000-2.parquet").write_bytes(b"PAR1")
    head = run(log)
    client.export(exported)
    assert head.exec_id in ids_of(exported)
    assert sorted(os.listdir(exported / ".export")) == ["2", "current", "lock"]


def test_a_table_whose_link_is_gone_is_shown_again(log: EventLog, client: KitaruClient, exported: Path) -> None:
    (exported / "waits").unlink()
    run(log)
    client.export(exported)
    assert (exported / "waits").is_dir()


def test_a_copy_of_the_folder_can_be_exported_to(log: EventLog, client: KitaruClient, exported: Path) -> None:
    copy = exported.with_name("copy")
    shutil.copytree(exported, copy, symlinks=True)
    run(log)
    client.export(copy)
    assert (len(ids_of(copy)), len(ids_of(exported))) == (2, 1)


def test_a_file_that_is_open_reads_on_through_the_next_export(log: EventLog, client: KitaruClient, exported: Path) -> None:
    with next((exported / "executions").glob("*.parquet")).open("rb") as file:
        whole = file.read()
        run(log)
        client.export(exported)
        file.seek(0)
        assert file.read() == whole


def test_the_connection_that_writes_reaches_no_other_folder(tmp_path: Path) -> None:
    from kitaru.analytics.connection import open_to_write

    (tmp_path / "secret.csv").write_text("a\n1\n")
    (tmp_path / "out").mkdir()
    duck = open_to_write(str(tmp_path / "out"))
    for statement in ("SELECT * FROM read_csv(?)", "COPY (SELECT 1) TO ?", "ATTACH ?"):
        with pytest.raises(Exception, match=r"Permission|disabled|configuration|syntax"):
            duck.execute(statement, (str(tmp_path / "secret.csv"),)).fetchall()
    with pytest.raises(Exception, match="lock"):
        duck.execute("SET enable_external_access = true")
    duck.close()
    assert (tmp_path / "secret.csv").read_text() == "a\n1\n"


def test_a_link_that_somebody_removed_is_put_back(client: KitaruClient, exported: Path) -> None:
    (exported / "waits").unlink()
    export(client, exported)
    assert os.readlink(exported / "waits") == ".export/current/waits"


def test_a_lock_that_leads_out_of_the_folder_is_not_followed(client: KitaruClient, target: Path, tmp_path: Path) -> None:
    (target / ".export").mkdir(parents=True)
    (target / ".export" / "lock").symlink_to(tmp_path / "elsewhere")
    assert refusal(client, target).code == "export-damaged"
    assert not (tmp_path / "elsewhere").exists()


def test_a_manifest_that_is_nested_without_end_is_a_damaged_export(client: KitaruClient, exported: Path) -> None:
    (exported / ".export" / "current" / "manifest.json").write_bytes(b"[" * 100_000)
    assert refusal(client, exported).code == "export-damaged"
