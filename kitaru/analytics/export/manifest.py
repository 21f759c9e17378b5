"""What an export's folder holds, as the export before wrote it down: pure, JSON to named tuples and back.

A bucket is a range of execution numbers; all rows of an execution are in files of its bucket, so a bucket is rewritten when
one of its executions changed, and no other file is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import NamedTuple, cast

from kitaru.domain.errors import KitaruStateError

FORMAT = 1
BUCKET = 32_768
"""Executions in a bucket. Of the population's, with all their events, that is half a gigabyte of memory and 4 s."""
EMPTY = -1
"""Where the file of a table without rows stands: readers want the columns."""


class Part(NamedTuple):
    """One file: its path below the table's folder, its size, and how many rows are in it."""

    path: str
    size: int
    rows: int


class TableState(NamedTuple):
    """What of a table is there: which executions were asked for, up to which position, and its files by bucket.

    `columns` names what the files hold; `since` and `until` are microseconds since 1970; `digest` says which event was
    at `position`, and from which rebuild of the read models the rows came.
    """

    columns: str
    since: int | None
    until: int | None
    position: int
    digest: str
    buckets: Mapping[int, tuple[Part, ...]]

    def parts(self) -> Iterator[Part]:
        """All its files."""
        for parts in self.buckets.values():
            yield from parts

    @property
    def rows(self) -> int:
        """Rows in all files."""
        return sum(part.rows for part in self.parts())


class Manifest(NamedTuple):
    """An export's folder. `bucket`: executions in a bucket."""

    store_id: str
    project: str
    partition_by: tuple[str, ...]
    bucket: int
    tables: Mapping[str, TableState]


def bucket_of(number: int, size: int) -> int:
    """The bucket of an execution, from 0, when each holds `size`."""
    return (number - 1) // size


def numbers_of(bucket: int, size: int) -> tuple[int, int]:
    """The first and the last execution number of a bucket."""
    return bucket * size + 1, (bucket + 1) * size


def dump(manifest: Manifest) -> bytes:
    """The manifest as it is stored."""
    tables = {
        name: {**state._asdict(), "buckets": {str(bucket): list(parts) for bucket, parts in state.buckets.items()}}
        for name, state in manifest.tables.items()
    }
    return json.dumps({"format": FORMAT, **manifest._asdict(), "tables": tables}, indent=1).encode()


def parse(data: bytes, folder: str) -> Manifest:
    """The manifest of a folder. Raises KitaruStateError when it is none that this version wrote."""
    try:
        found = cast("dict[str, object]", json.loads(data))
        if found["format"] != FORMAT:
            raise KitaruStateError(
                f"{folder} was exported in format {found['format']!r}, this version of kitaru knows {FORMAT}; "
                "export into a new folder",
                code="export-format",
            )
        tables = {
            _text(name): _state(cast("dict[str, object]", state))
            for name, state in cast("dict[object, object]", found["tables"]).items()
        }
        partition_by = tuple(_text(name) for name in cast("list[object]", found["partition_by"]))
        store_id, project, bucket = _text(found["store_id"]), _text(found["project"]), _number(found["bucket"])
        return Manifest(store_id, project, partition_by, bucket, tables)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise damaged(folder, "its manifest cannot be read") from None


def damaged(folder: str, what: str) -> KitaruStateError:
    """The error for a folder that is not as an export left it."""
    return KitaruStateError(
        f"{folder} is not as the last export left it: {what}; remove the folder, or export into a new one",
        code="export-damaged",
    )


def _state(found: Mapping[str, object]) -> TableState:
    buckets: dict[int, tuple[Part, ...]] = {}
    for bucket, parts in cast("dict[str, list[object]]", found["buckets"]).items():
        buckets[int(bucket)] = tuple(_part(cast("list[object]", part)) for part in parts)
    since, until = (None if found[name] is None else _number(found[name]) for name in ("since", "until"))
    position, columns, digest = _number(found["position"]), _text(found["columns"]), _text(found["digest"])
    return TableState(columns, since, until, position, digest, buckets)


def _part(found: list[object]) -> Part:
    path, size, rows = found
    text = _text(path)
    if text.startswith("/") or ".." in text.split("/") or "\0" in text:
        raise ValueError(text)  # it would lead out of the folder
    return Part(text, _number(size), _number(rows))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError
    return value
