"""The files of columnar bases: what they are called, which of them fit a store as it is, and which are to go.

A generation is immutable, and its name says what it holds: the rows of one family as they stood at a position, of a store,
its read models and their rebuild. It fits as long as the log up to that position is the log it was made from: the event
there has to bear the digest of the name, or the tombstone of its execution, which bears that of the last event. A restored
backup, a store that took another's place, a copied folder that went its own way, a rebuild: none of them fits. Nor does a
store where that event is not to be found any more: another history may have lost another one.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from hashlib import blake2b
from typing import Literal, NamedTuple

from kitaru.store.log import Reads

Family = Literal["executions", "steps"]
FAMILIES: tuple[Family, ...] = ("executions", "steps")
"""`executions` with their tags, metadata and details; `steps` are calls, attempts, waits and usage records."""

LAYOUT = 1
"""Raised whenever the tables of a base change: a file of another layout is not read, and the next builder removes it."""
FOLDER = "statistics"
_NAME = re.compile(r"(executions|steps)-(\d+)-([0-9a-f-]{36})-([0-9a-f]{16})-(\d+)-(\d+)-([0-9a-f]{16})\.duckdb", re.ASCII)
_BUILDING = ".building-"
_NONE = "0" * 16

_META = "SELECT key, value FROM meta WHERE key = 'generation' OR key LIKE 'projection:%' ORDER BY key"
_EVENT_AT = "SELECT number, digest FROM events WHERE position = ?"
_TOMBSTONE = "SELECT digest FROM events WHERE number = ? AND version = 0"


class Origin(NamedTuple):
    """A moment of a store: what a generation is made from, and has to fit. `number` is the execution's, and
    `event` the digest, of the event there.
    """

    store_id: str
    models: str
    position: int
    number: int
    event: str


class Generation(NamedTuple):
    """A file of a base."""

    family: Family
    origin: Origin
    path: str


def origin_of(moment: Reads) -> Origin:
    """The store as it is now."""
    position = moment.last_position()
    return Origin(moment.store_id, models_of(moment), position, *_event_at(moment, position))


def fits(moment: Reads, origin: Origin) -> bool:
    """Whether the store still has the history that it had then."""
    if origin.store_id != moment.store_id or origin.models != models_of(moment):
        return False
    if origin.position == 0 or _event_at(moment, origin.position) == (origin.number, origin.event):
        return True
    return any(_digest(row[0]) == origin.event for row in moment.query(_TOMBSTONE, (origin.number,)))


def find(moment: Reads, place: str, family: Family) -> Generation | None:
    """The newest generation in a folder that fits, or None."""
    found = [each for each in listed(place) if each.family == family]
    for each in sorted(found, key=_position, reverse=True):
        if fits(moment, each.origin):
            return each
    return None


def listed(place: str) -> list[Generation]:
    """The generations in a folder that this version could read."""
    try:
        names = os.listdir(place)
    except OSError:
        return []
    found: list[Generation] = []
    for name in names:
        parts = _NAME.fullmatch(name)
        if parts is None or int(parts[2]) != LAYOUT:
            continue
        origin = Origin(parts[3], parts[4], int(parts[5]), int(parts[6]), parts[7])
        found.append(Generation("steps" if parts[1] == "steps" else "executions", origin, os.path.join(place, name)))
    return found


def name_of(family: Family, origin: Origin) -> str:
    """The name of a generation's file."""
    where = f"{origin.position}-{origin.number}-{origin.event}"
    name = f"{family}-{LAYOUT}-{origin.store_id}-{origin.models}-{where}.duckdb"
    assert _NAME.fullmatch(name)
    return name


def make_place(folder: str) -> str:
    """The folder of a store's generations (0700), made when absent. Raises OSError."""
    place = os.path.join(folder, FOLDER)
    os.makedirs(place, mode=0o700, exist_ok=True)
    return place


def new_path(place: str) -> str:
    """Where a generation is built before it has its name."""
    return os.path.join(place, f"{_BUILDING}{os.getpid()}")


def remove_unfinished(place: str) -> None:
    """Remove what killed builders left. Only the one who holds the builders' lock may."""
    _unlink(os.path.join(place, name) for name in os.listdir(place) if _is_unfinished(name))


def remove(generation: Generation) -> None:
    """Remove one."""
    _unlink([generation.path])


def remove_old(place: str, newest: Generation, *, kept: int = 1) -> None:
    """Remove what nobody will ask for: all of a family but its newest generation and `kept` before it, 1 or 0.

    Who has an old one open reads on.
    """
    of_family = [each for each in listed(place) if each.family == newest.family and each.path != newest.path]
    same = [each for each in of_family if each.origin[:2] == newest.origin[:2]]
    before = sorted((each for each in same if each.origin.position < newest.origin.position), key=_position)
    stays = {newest.path, *(each.path for each in before[len(before) - kept :])}
    paths = (os.path.join(place, name) for name in os.listdir(place) if name.startswith(f"{newest.family}-"))
    _unlink(path for path in paths if path not in stays)


def forget(folder: str) -> None:
    """Remove every generation of a store: what was erased or deleted is in none any more. The next question makes one.

    Nobody waits for a builder: what it has begun is taken from it, and it fails. The order matters. Without finished files
    nothing old is copied into those that are begun from now on; and what was renamed meanwhile is found at the end.
    """
    place = os.path.join(folder, FOLDER)
    with contextlib.suppress(OSError):
        for is_to_go in (_is_finished, _is_unfinished, _is_finished):
            _unlink(os.path.join(place, name) for name in os.listdir(place) if is_to_go(name))


def hold_deleted(reads: Reads, folder: str) -> bool:
    """Whether executions that were deleted may be in a generation: who deleted them was killed before it forgot them."""
    found = listed(os.path.join(folder, FOLDER))
    return any(reads.tombstones(after=each.origin.position, limit=1) for each in found)


def _is_finished(name: str) -> bool:
    return name.endswith(".duckdb")


def _is_unfinished(name: str) -> bool:
    return name.startswith(_BUILDING)


def _position(generation: Generation) -> int:
    return generation.origin.position


def models_of(moment: Reads) -> str:
    """A digest of the read models there are, and of their last rebuild."""
    return _digest(moment.query(_META))


def _event_at(moment: Reads, position: int) -> tuple[int, str]:
    """The execution's number of an event, and a digest of the event's own; constants where there is none."""
    for number, digest in moment.query(_EVENT_AT, (position,)):
        return int(str(number)), _digest(digest)
    return 0, _NONE


def _digest(of: object) -> str:
    """What stands in a name for something that the store says: a name is never made of data."""
    return blake2b(repr(of).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _unlink(paths: Iterable[str]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):
            os.unlink(path)
