"""What `.submit`, `.map` and `.product` return, and how such futures become arguments of other calls."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures import wait as wait_for_futures
from typing import TYPE_CHECKING, Generic, TypeVar, cast, overload

from kitaru.domain.errors import KitaruContextError, KitaruUsageError
from kitaru.domain.limits import MAX_MAP_CALLS

if TYPE_CHECKING:
    from kitaru.runtime.calls import Outcome
    from kitaru.runtime.checkpoint import Prepared

R = TypeVar("R", covariant=True)


class CheckpointFuture(Generic[R]):
    """A checkpoint call under way. In an async flow await it; elsewhere ask for `result()`."""

    def __init__(self, inner: Future[Outcome], invocation_id: str, loop_thread: int | None) -> None:
        self.inner = inner
        self._loop_thread = loop_thread
        self.invocation_id = invocation_id

    def result(self, timeout: float | None = None) -> R:
        """The checkpoint's value, or its exception raised. TimeoutError after `timeout` seconds cancels nothing."""
        return cast("R", self.outcome(timeout).unwrap())

    load = result

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the call ended, well or badly; whether it did within `timeout` seconds."""
        self._refuse_to_block("wait")
        return bool(wait_for_futures([self.inner], timeout).done)

    def done(self) -> bool:
        """Whether the call has ended."""
        return self.inner.done()

    def __await__(self) -> Generator[object, None, R]:
        outcome = yield from asyncio.wrap_future(self.inner).__await__()
        return cast("R", outcome.unwrap())

    def outcome(self, timeout: float | None) -> Outcome:
        """How the call ended: its value or exception, and its ordinal."""
        self._refuse_to_block("result")
        return self.inner.result(timeout)

    def _refuse_to_block(self, verb: str) -> None:
        if not self.inner.done() and self._loop_thread == threading.get_ident():
            raise KitaruContextError(
                f"{verb}() of the call {self.invocation_id!r} would block the event loop of an async flow; "
                "await the future instead"
            )

    def __repr__(self) -> str:
        return f"<CheckpointFuture {self.invocation_id} {'done' if self.done() else 'running'}>"


class FutureList(Generic[R]):
    """Futures in input order, and their results as one list."""

    def __init__(self, futures: Iterable[CheckpointFuture[R]]) -> None:
        self._futures = tuple(futures)

    def result(self, timeout: float | None = None) -> list[R]:
        """The values in input order, or the first exception in that order. `timeout` holds for each, in seconds."""
        return [future.result(timeout) for future in self._futures]

    load = result

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all calls ended; whether each did within `timeout` seconds."""
        return len(self._futures) == sum(future.wait(timeout) for future in self._futures)

    def __await__(self) -> Generator[object, None, list[R]]:
        return self._collect().__await__()

    async def _collect(self) -> list[R]:
        return [await future for future in self._futures]

    def __iter__(self) -> Iterator[CheckpointFuture[R]]:
        return iter(self._futures)

    def __len__(self) -> int:
        return len(self._futures)

    @overload
    def __getitem__(self, index: int) -> CheckpointFuture[R]: ...
    @overload
    def __getitem__(self, index: slice) -> FutureList[R]: ...
    def __getitem__(self, index: int | slice) -> CheckpointFuture[R] | FutureList[R]:
        if isinstance(index, slice):
            return FutureList(self._futures[index])
        return self._futures[index]


def resolve(prepared: Prepared) -> None:
    """Put the values of futures in their place; their calls become parents. Blocks until they are there."""
    for future in _futures_in(prepared):
        future.outcome(None)
    _substitute(prepared)


async def resolve_async(prepared: Prepared) -> None:
    """The same on an event loop."""
    for future in _futures_in(prepared):
        await asyncio.wrap_future(future.inner)
    _substitute(prepared)


_KINDS = frozenset({CheckpointFuture, FutureList})
_HOLDERS = frozenset({list, tuple, dict})


def has_futures(prepared: Prepared) -> bool:
    """Whether an argument is a future, a list of them as `.map` gives it, or a list, tuple or dict that holds one."""
    return any(map(_holds_futures, prepared.args)) or any(map(_holds_futures, prepared.kwargs.values()))


def _holds_futures(value: object) -> bool:
    return type(value) in _KINDS or (type(value) in _HOLDERS and not _KINDS.isdisjoint(map(type, _held(value))))


def _held(holder: object) -> Iterable[object]:
    if type(holder) is dict:
        return cast("dict[object, object]", holder).values()
    return cast("Iterable[object]", holder)


def _futures_in(prepared: Prepared) -> list[CheckpointFuture[object]]:
    found: list[CheckpointFuture[object]] = []
    for value in (*prepared.args, *prepared.kwargs.values()):
        for each in _held(value) if type(value) in _HOLDERS else (value,):
            if isinstance(each, CheckpointFuture):
                found.append(cast("CheckpointFuture[object]", each))
            elif isinstance(each, FutureList):
                found.extend(cast("FutureList[object]", each))
    return found


def _substitute(prepared: Prepared) -> None:
    parents = [future.outcome(None).call for future in _futures_in(prepared)]
    prepared.parents = tuple(dict.fromkeys(parents))
    prepared.args = tuple(_value(arg) for arg in prepared.args)
    prepared.kwargs = {name: _value(arg) for name, arg in prepared.kwargs.items()}


def _value(argument: object) -> object:
    if type(argument) in _HOLDERS and _holds_futures(argument):
        if type(argument) is dict:
            return {key: _result(value) for key, value in cast("dict[object, object]", argument).items()}
        values = map(_result, _held(argument))
        return tuple(values) if type(argument) is tuple else list(values)
    return _result(argument)


def _result(value: object) -> object:
    if isinstance(value, CheckpointFuture):
        return cast("CheckpointFuture[object]", value).result()
    if isinstance(value, FutureList):
        return cast("FutureList[object]", value).result()
    return value


def zipped(name: str, iterables: tuple[Iterable[object], ...]) -> list[tuple[object, ...]]:
    """The arguments of each call of `.map`. Raises KitaruUsageError for unequal lengths and too many."""
    if not iterables:
        raise KitaruUsageError(f"{name}.map() needs at least one iterable")
    columns = [_limited(name, "map", iterable) for iterable in iterables]
    lengths = [len(column) for column in columns]
    if len(set(lengths)) > 1:
        raise KitaruUsageError(f"{name}.map() was given iterables of unequal lengths: {lengths}")
    return list(zip(*columns, strict=True))


def crossed(name: str, iterables: tuple[Iterable[object], ...]) -> list[tuple[object, ...]]:
    """The arguments of each call of `.product`. Raises KitaruUsageError for too many."""
    if not iterables:
        raise KitaruUsageError(f"{name}.product() needs at least one iterable")
    columns = [_limited(name, "product", iterable) for iterable in iterables]
    return _limited(name, "product", itertools.product(*columns))


_Item = TypeVar("_Item")


def _limited(name: str, verb: str, iterable: Iterable[_Item]) -> list[_Item]:
    try:
        items = list(itertools.islice(iterable, MAX_MAP_CALLS + 1))
    except TypeError:
        raise KitaruUsageError(f"{name}.{verb}() takes iterables, not {iterable!r}; pass constants by name") from None
    if len(items) > MAX_MAP_CALLS:
        raise KitaruUsageError(f"{name}.{verb}() would make more than {MAX_MAP_CALLS} calls; split it into parts")
    return items
