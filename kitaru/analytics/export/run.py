"""Exporting a store: what changed since the last export is written anew, bucket by bucket, and shown in one step.

Each bucket is read in one moment of the store, so all rows of an execution belong together; executions that go on
meanwhile are written again by the next export, which takes everything after the position where this one began.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from queue import SimpleQueue
from typing import NamedTuple, cast

from kitaru.analytics import generations
from kitaru.analytics.export import shapes, staging
from kitaru.analytics.export.manifest import BUCKET, EMPTY, Manifest, Part, TableState, bucket_of, numbers_of
from kitaru.analytics.export.stage import Selection, Stage
from kitaru.analytics.export.target import Generation, Target, open_target
from kitaru.domain.errors import KitaruUsageError
from kitaru.store.log import Reads

Progress = Callable[[int, int], None]
"""Called with (files done, files to do)."""

_AT_ONCE = 2
"""Buckets of executions that are written at a time."""
_EARLIEST, _LATEST = -(2**63), 2**63 - 1
_NONE = "none"
"""What the folder of a table without rows is called. Readers that guess types take it for a text, as the others are."""

_Work = tuple[int, tuple[str, ...]]
"""A bucket and the tables in which it is to be written."""
_Made = tuple[int, str, tuple[Part, ...]]
"""A bucket, a table, and the files of it."""


class Written(NamedTuple):
    """A table after an export: all its rows and files, and how many files of them are new."""

    table: str
    rows: int
    files: int
    size: int
    new_files: int


class Wanted(NamedTuple):
    """What is asked for, checked: see `make_wanted`."""

    project: str
    tables: tuple[str, ...]
    partition_by: tuple[str, ...]
    since: int | None
    until: int | None


def make_wanted(
    project: str, tables: Iterable[str] | None, partition_by: Iterable[str], since: int | None, until: int | None
) -> Wanted:
    """Check what is asked for. Raises KitaruUsageError."""
    return Wanted(
        project,
        _chosen("table", tables, tuple(shapes.TABLES)) or tuple(shapes.TABLES),
        _chosen("partition", partition_by, shapes.PARTITIONS),
        since,
        until,
    )


def export(
    reads: Reads, folder: str, wanted: Wanted, progress: Progress | None = None, *, bucket: int = BUCKET
) -> list[Written]:
    """Bring an export's folder up to date with a store. `bucket`: executions that are written together.

    Raises what `open_target` raises, and KitaruBackendError.
    """
    with open_target(folder) as target:
        _check_same(target, reads, wanted)
        return _Export(reads, target, wanted, bucket).run(progress)


class _Export:
    def __init__(self, reads: Reads, target: Target, wanted: Wanted, size: int) -> None:
        self._reads = reads
        self._target = target
        self._wanted = wanted
        before = target.manifest
        self._before: Mapping[str, TableState] = {} if before is None else before.tables
        self._size = size if before is None else before.bucket
        with reads.snapshot() as moment:
            self._position = moment.last_position()
            self._digest = _digest_at(moment, self._position)
            greatest = cast("int", moment.query(staging.GREATEST_NUMBER)[0][0])
            self._buckets = range(bucket_of(greatest, self._size) + 1) if greatest else range(0)
            place = os.path.join(reads.location, generations.FOLDER)
            self._base = generations.find(moment, place, "executions")
            self._changed = {table: self._changed_buckets(moment, table) for table in wanted.tables}

    def run(self, progress: Progress | None) -> list[Written]:
        if all(changed is not None and not changed for changed in self._changed.values()):
            if progress is not None:
                progress(0, 0)
            return [_written(table, self._before[table], ()) for table in self._wanted.tables]
        generation = self._target.begin()
        try:
            written = self._write(generation, progress)
        except BaseException:
            generation.discard()
            raise
        return written

    def _changed_buckets(self, moment: Reads, table: str) -> frozenset[int] | None:
        """Which buckets are to be written again; None: all there are, whatever was written before."""
        before = self._before.get(table)
        if (
            before is None
            or before.columns != shapes.columns_digest(table)
            or (before.since, before.until) != (self._wanted.since, self._wanted.until)
            or _digest_at(moment, before.position) != before.digest
        ):
            return None
        rows = moment.query(staging.CHANGED, (before.position,))
        return frozenset(bucket_of(cast("int", row[0]), self._size) for row in rows)

    def _write(self, generation: Generation, progress: Progress | None) -> list[Written]:
        tables = self._wanted.tables
        parts: dict[str, dict[int, tuple[Part, ...]]] = {table: {} for table in tables}
        for table in {*self._before, *tables}:
            generation.begin_table(table)
        for table, before in self._before.items():
            changed = self._changed.get(table, frozenset())
            kept = {} if changed is None else {b: each for b, each in before.buckets.items() if b not in changed and b >= 0}
            if table not in tables:
                kept = before.buckets
            for bucket, each in kept.items():
                generation.keep(table, each)
                if table in tables:
                    parts[table][bucket] = each
        new = self._write_buckets(generation, parts, progress)
        states = {
            table: TableState(
                shapes.columns_digest(table), self._wanted.since, self._wanted.until, self._position, self._digest,
                parts[table],
            )
            for table in tables
        }  # fmt: skip
        named = (self._reads.store_id, self._wanted.project, self._wanted.partition_by, self._size)
        manifest = Manifest(*named, {**self._before, **states})
        self._target.commit(generation, manifest)
        return [_written(table, states[table], new[table]) for table in tables]

    def _write_buckets(
        self, generation: Generation, parts: Mapping[str, dict[int, tuple[Part, ...]]], progress: Progress | None
    ) -> dict[str, list[Part]]:
        """Write what changed; the new files of each table."""
        wanted = self._wanted
        since = _EARLIEST if wanted.since is None else wanted.since
        until = _LATEST if wanted.until is None else wanted.until
        work = [(bucket, tables) for bucket in self._buckets if (tables := self._tables_with(bucket))]
        total = sum(len(tables) for _, tables in work)
        new: dict[str, list[Part]] = {table: [] for table in wanted.tables}
        stage = Stage(generation.folder, Selection(wanted.project, since, until), wanted.tables, self._base)
        try:
            with closing(self._made(generation, stage, work)) as made:
                for done, (bucket, table, some) in enumerate(made, 1):
                    if some:
                        parts[table][bucket] = some
                        new[table].extend(some)
                    if progress is not None:
                        progress(done, total)
            stage.clear()
            for table in wanted.tables:
                if not parts[table]:
                    parts[table][EMPTY] = (self._write_empty(generation, stage, table),)
                    new[table].extend(parts[table][EMPTY])
        finally:
            stage.close()
        return new

    def _made(self, generation: Generation, stage: Stage, work: Sequence[_Work]) -> Generator[_Made]:
        """Write buckets; what came of each. Executions alone two at a time: DuckDB gives one bucket's rows to one thread.

        The events of one bucket are work enough for all threads, and take half a gigabyte.
        """
        if self._wanted.tables != ("executions",) or len(work) < _AT_ONCE:
            for bucket, tables in work:
                yield from self._write_bucket(generation, stage, bucket, tables)
            return
        free: SimpleQueue[Stage] = SimpleQueue()
        with ExitStack() as others:
            free.put(stage)
            for _ in range(1, _AT_ONCE):
                free.put(others.enter_context(closing(stage.another())))

            def write(bucket: int, tables: Sequence[str]) -> list[_Made]:
                mine = free.get()
                try:
                    return list(self._write_bucket(generation, mine, bucket, tables))
                finally:
                    free.put(mine)

            pool = ThreadPoolExecutor(_AT_ONCE, "kitaru-export")
            try:
                for each in [pool.submit(write, *some) for some in work]:
                    yield from each.result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _tables_with(self, bucket: int) -> tuple[str, ...]:
        """The tables in which a bucket is to be written."""
        return tuple(table for table, changed in self._changed.items() if changed is None or bucket in changed)

    def _write_bucket(self, generation: Generation, stage: Stage, bucket: int, tables: Sequence[str]) -> Iterator[_Made]:
        with self._reads.snapshot() as moment:
            stage.load(moment, numbers_of(bucket, self._size), tables)
        for table in tables:
            yield bucket, table, self._write_table(generation, stage, bucket, table)

    def _write_table(self, generation: Generation, stage: Stage, bucket: int, table: str) -> tuple[Part, ...]:
        partition_by = self._wanted.partition_by
        name = f"{bucket:06d}"
        with generation.workroom(name) as room:
            path = room if partition_by else os.path.join(room, "all.parquet")
            if not stage.write(table, partition_by, path):
                return ()
            paths = generation.take_in(table, room, name)
        return tuple(_part(generation, stage, table, path) for path in paths)

    def _write_empty(self, generation: Generation, stage: Stage, table: str) -> Part:
        partition_by = self._wanted.partition_by
        with generation.workroom("empty") as room:
            folder = os.path.join(room, *(f"{name}={_NONE}" for name in partition_by))
            os.makedirs(folder, exist_ok=True)
            stage.write_empty(table, partition_by, os.path.join(folder, "all.parquet"))
            (path,) = generation.take_in(table, room, "empty")
        return _part(generation, stage, table, path)


def _part(generation: Generation, stage: Stage, table: str, path: str) -> Part:
    return Part(path, generation.size_of(table, path), stage.rows_in(os.path.join(generation.folder, table, path)))


def _written(table: str, state: TableState, new: Sequence[Part]) -> Written:
    parts = list(state.parts())
    return Written(table, state.rows, len(parts), sum(part.size for part in parts), len(new))


def _digest_at(moment: Reads, position: int) -> str:
    """The digests of the event at a position, empty when it is not there any more, and of the read models."""
    rows = moment.query(staging.DIGEST_AT, (position,))
    return f"{rows[0][0] if rows else ''}-{generations.models_of(moment)}"


def _check_same(target: Target, reads: Reads, wanted: Wanted) -> None:
    before = target.manifest
    if before is None:
        return
    if (before.store_id, before.project) != (reads.store_id, wanted.project):
        raise KitaruUsageError(
            f"{target.folder} is the export of another store or project (store {before.store_id}, project "
            f"{before.project!r}); name another folder",
            code="export-other-store",
        )
    if before.partition_by != wanted.partition_by:
        was = ",".join(before.partition_by) or "nothing"
        raise KitaruUsageError(
            f"{target.folder} is partitioned by {was}; export with the same partitions, or name another folder",
            code="export-partitions",
        )


def _chosen(what: str, given: Iterable[str] | None, choices: Sequence[str]) -> tuple[str, ...]:
    """Some of the choices, in their order."""
    names = (given,) if isinstance(given, str) else tuple(given or ())
    for name in names:
        if name not in choices:
            raise KitaruUsageError(f"there is no {what} {name!r}; choose among {', '.join(choices)}")
    return tuple(choice for choice in choices if choice in names)
