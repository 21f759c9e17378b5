"""The sandbox that every statistics query runs in: one DuckDB that reaches no file but its own.

DuckDB costs 160 ms to import, so it is imported here, when the first question is asked. Every result is fetched whole:
`fetchone` leaves a connection of DuckDB 2.0 busy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

THREADS = 2
MEMORY = "640MB"
_BUILD_MEMORY = "512MB"
_EXPORT_MEMORY = "1GB"

_ATTACH_BASE = "ATTACH ? AS base (READ_ONLY)"
_IN_UTC = "SET GLOBAL TimeZone = 'UTC'"
_ALLOW = "SET allowed_directories = ?"
_ATTACH = (
    ("executions", "ATTACH ? AS base (READ_ONLY)"),
    ("steps", "ATTACH ? AS steps (READ_ONLY)"),
)
_ATTACH_TAIL = "ATTACH ':memory:' AS tail (READ_WRITE)"
_ATTACH_PREVIOUS = "ATTACH ? AS previous (READ_ONLY)"
_USE_TAIL = "USE tail"
_LOCK = ("SET enable_external_access = false", "SET lock_configuration = true")


class Duck(Protocol):
    """What is used of a DuckDB connection."""

    def execute(self, query: str, parameters: Sequence[object] | None = None) -> Duck:
        """Run one statement."""
        ...

    def fetchall(self) -> list[tuple[Any, ...]]:
        """The rows of the last statement."""
        ...

    def cursor(self) -> Duck:
        """Another connection to the same DuckDB: the same threads, memory limit and settings, its own TEMP tables."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


def open_sandbox(paths: Mapping[str, str]) -> tuple[Duck, Duck]:
    """A DuckDB on files of bases, each by its family's name: (a connection to ask, one that fills the schema `tail`)."""
    asking = _connect(":memory:", MEMORY)
    try:
        for family, statement in _ATTACH:
            if family in paths:
                asking.execute(statement, (paths[family],))
        asking.execute(_ATTACH_TAIL)
        filling = asking.cursor()
        filling.execute(_USE_TAIL)
        for statement in _LOCK:
            asking.execute(statement)
    except BaseException:
        asking.close()
        raise
    return asking, filling


def open_to_build(path: str, previous: str | None) -> Duck:
    """A DuckDB on a file that nobody else knows yet, with the one before as the schema `previous`."""
    connection = _connect(path, _BUILD_MEMORY)
    try:
        if previous is not None:
            connection.execute(_ATTACH_PREVIOUS, (previous,))
        for statement in _LOCK:
            connection.execute(statement)
    except BaseException:
        connection.close()
        raise
    return connection


def open_to_write(folder: str, base: str | None = None) -> Duck:
    """A DuckDB in memory that reaches no file but those below `folder`, with a base's file as the schema `base`."""
    connection = _connect(":memory:", _EXPORT_MEMORY)
    try:
        if base is not None:
            connection.execute(_ATTACH_BASE, (base,))
        connection.execute(_IN_UTC)
        connection.execute(_ALLOW, ([folder],))
        for statement in _LOCK:
            connection.execute(statement)
    except BaseException:
        connection.close()
        raise
    return connection


def _connect(path: str, memory: str) -> Duck:
    import duckdb

    settings = {
        "threads": THREADS,
        "memory_limit": memory,
        "temp_directory": "",
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "allow_community_extensions": "false",
        "python_enable_replacements": "false",
    }
    return cast("Duck", duckdb.connect(path, config=cast("Any", settings)))


def duck_errors() -> tuple[type[Exception], ...]:
    """What DuckDB raises."""
    import duckdb

    return (duckdb.Error,)


def is_of_memory(error: Exception) -> bool:
    """Whether it is that the memory does not suffice."""
    import duckdb

    return isinstance(error, duckdb.OutOfMemoryException)


def is_of_a_file(error: Exception) -> bool:
    """Whether it may be that a base's file has gone, or is damaged."""
    import duckdb

    return not isinstance(error, (duckdb.DataError, duckdb.NotSupportedError, duckdb.OutOfMemoryException))
