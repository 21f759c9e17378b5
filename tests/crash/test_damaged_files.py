"""R13: one flipped bit anywhere in a store's files. R14: truncation and zeroed pages. Told, or harmless; never silent."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.crash.children import ForkServer
from tests.crash.tiers import tiers

PAGE = 4096
AT_ONCE = 10


@dataclass(frozen=True)
class Base:
    """A store to damage, what it holds, and its execution to go on with."""

    folder: Path
    truth: Path
    lost: dict[str, Any]
    sizes: dict[str, int]


@pytest.fixture(scope="module", params=["in the database", "in the WAL"])
def base(request: pytest.FixtureRequest, forkserver: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Base:
    """Everything in the database file, or most of it still in the WAL."""
    folder = tmp_path_factory.mktemp("base")
    environment = {"CRASH_LEDGER": str(folder / "ledger")}
    go = folder / "go"
    in_wal = request.param == "in the WAL"
    (said,) = forkserver.run("damage:make_store", folder, environment, lost_file=str(go), in_wal=in_wal)
    go.touch()
    (truth,) = forkserver.run("damage:tell_truth", folder)
    (folder / "truth").write_text(json.dumps(truth["truth"]))
    store = folder / "store"
    shutil.rmtree(store / "runners")
    (store / "kitaru.db-shm").unlink()
    lost = {"exec_id": said["lost"], "value": [(31 * 0 + place) for place in range(3)] + [3, 4, 5]}
    sizes = {path.name: path.stat().st_size for path in store.iterdir() if path.stat().st_size}
    return Base(store, folder / "truth", lost, sizes)


@tiers("flips", 200, 1_000, 20_000, parts=2)
def test_a_flipped_bit_is_told_or_changes_nothing(
    flips: int, chance: random.Random, base: Base, forkserver: ForkServer, folder: Path
) -> None:
    damages = [[{"file": file, "bit": chance.randrange(8 * base.sizes[file])}] for file in files(base, chance, flips // 2)]
    noticed = examine(damages, base, forkserver, folder)
    assert any(noticed), "no flip was ever noticed"


@tiers("damages", 200, 1_000, 20_000, parts=2)
def test_truncation_and_zeroed_pages_are_told_or_change_nothing(
    damages: int, chance: random.Random, base: Base, forkserver: ForkServer, folder: Path
) -> None:
    chosen = [[lose(file, base.sizes[file], chance)] for file in files(base, chance, damages // 2)]
    noticed = examine(chosen, base, forkserver, folder)
    assert any(noticed), "nothing was ever noticed"


def test_a_schema_that_is_no_text_any_more_is_a_typed_error(base: Base, forkserver: ForkServer, folder: Path) -> None:
    """sqlite3 cannot make its own error of a message with such bytes in it, and raises UnicodeDecodeError."""
    at = (base.folder / "kitaru.db").read_bytes().index(b"CREATE TABLE events")
    assert examine([[{"file": "kitaru.db", "bit": 8 * place + 7}] for place in range(at, at + 30)], base, forkserver, folder)


def files(base: Base, chance: random.Random, count: int) -> list[str]:
    """Which file each damage hits: by size."""
    return chance.choices(list(base.sizes), list(base.sizes.values()), k=count)


def lose(file: str, size: int, chance: random.Random) -> dict[str, Any]:
    """Cut the end off, at a page or anywhere, or zero one to three pages, or a piece as small as a sector."""
    kind = chance.choice(("truncate", "truncate at a page", "zero pages", "zero a sector"))
    if kind == "truncate":
        return {"file": file, "truncate": chance.randrange(1, size)}
    if kind == "truncate at a page":
        return {"file": file, "truncate": PAGE * chance.randrange(1, max(2, size // PAGE))}
    if kind == "zero pages":
        pages = chance.randint(1, 3)
        first = chance.randrange(max(1, size // PAGE))
        return {"file": file, "zero": PAGE * first, "length": min(PAGE * pages, size - PAGE * first)}
    sector = chance.randrange(max(1, size // 512))
    return {"file": file, "zero": 512 * sector, "length": min(512, size - 512 * sector)}


def examine(damages: list[list[dict[str, Any]]], base: Base, forkserver: ForkServer, folder: Path) -> list[bool]:
    """Whether each was noticed. Fails with whatever was said wrongly of any."""
    noticed: list[bool] = []
    for first in range(0, len(damages), AT_ONCE):
        some = damages[first : first + AT_ONCE]
        said = forkserver.run(
            "damage:examine", folder, {"CRASH_LEDGER": str(folder / "ledger")},
            damages=some, truth_file=str(base.truth), base=str(base.folder), lost=base.lost,
        )  # fmt: skip
        assert len(said) == len(some)
        for line in said:
            assert not line["wrong"], f"after {some[line['number']]}: " + "\n".join([*line["wrong"], "noticed:", *line["noticed"]])
            noticed.append(bool(line["noticed"]))
    return noticed
