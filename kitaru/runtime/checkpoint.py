"""`@checkpoint`: a step of a flow whose result is recorded once.

Decorating costs no import beyond the standard library; the machinery (`calls`, `futures`) loads at the first call.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Generic, ParamSpec, TypeVar, cast, overload

from kitaru.domain.errors import KitaruContextError, KitaruUsageError
from kitaru.runtime.options import Cache, checked_cache, checked_count, checked_name, checked_seconds
from kitaru.runtime.scope import FlowScope, flow_scope
from kitaru.runtime.source import stamp_of, undecorated

if TYPE_CHECKING:
    from kitaru.runtime.futures import CheckpointFuture, FutureList
    from kitaru.runtime.session import Session

P = ParamSpec("P")
R = TypeVar("R", covariant=True)

_COROUTINE = 0x80  # inspect.CO_COROUTINE, without importing inspect
_VARIADIC = 0x04 | 0x08  # CO_VARARGS | CO_VARKEYWORDS
_LONGEST_PAUSE = 1e9


class Checkpoint(Generic[P, R]):
    """A decorated function. Calling it inside a flow runs it, or gives what was recorded."""

    def __init__(
        self,
        fn: Callable[P, R],
        *,
        retries: int,
        retry_delay: float,
        retry_backoff: float,
        retry_on: type[Exception] | tuple[type[Exception], ...],
        timeout: float | None,
        cache: Cache,
        type: str | None,
        runtime: str,
    ) -> None:
        code = getattr(fn, "__code__", None)
        if code is None:
            raise KitaruUsageError(f"@checkpoint goes on a function, not on {fn!r}")
        functools.update_wrapper(self, fn, updated=())  # a function may have an attribute `map`
        self.fn = fn
        self.__qualname__: str = fn.__qualname__
        self.name = checked_name(fn.__name__, "the checkpoint's name")
        if "/" in self.name:
            raise KitaruUsageError(f"the checkpoint's name {self.name!r} contains '/'")
        self._what = f"the checkpoint {self.name!r}"
        what = f"@checkpoint on {self.name}:"
        self.retries = checked_count(retries, f"{what} retries")
        self.retry_delay = checked_seconds(retry_delay, f"{what} retry_delay")
        self.retry_backoff = checked_seconds(retry_backoff, f"{what} retry_backoff")
        self.retry_on = _checked_classes(retry_on, what)
        self.timeout = None if timeout is None else checked_seconds(timeout, f"{what} timeout")
        self.cache = checked_cache(cache, f"{what} cache")
        self.type = None if type is None else checked_name(type, f"{what} type")
        if runtime not in ("inline", "isolated"):
            raise KitaruUsageError(f"{what} runtime has to be 'inline' or 'isolated', not {runtime!r}")
        self.isolated = runtime == "isolated"
        self.is_async = bool(code.co_flags & _COROUTINE)
        simple = not code.co_flags & _VARIADIC and not code.co_kwonlyargcount and not code.co_posonlyargcount
        self._parameters: tuple[str, ...] | None = code.co_varnames[: code.co_argcount] if simple else None
        defaults: tuple[object, ...] = getattr(fn, "__defaults__", None) or ()
        self._defaults = dict(zip((self._parameters or ())[-len(defaults) :], defaults, strict=False)) if defaults else {}
        self.source_file = undecorated(fn).__code__.co_filename
        self.stamp = stamp_of(self.source_file)
        self._rests: dict[int, dict[str, object] | None] = {}
        self._takes_id = "id" in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]

    def __get__(self, instance: object, owner: type | None = None) -> object:
        """Methods are refused where they would be called: their `self` is not part of the record."""
        if instance is None:
            return self
        raise KitaruUsageError(
            f"@checkpoint on the method {self.__qualname__}: put it on a module-level function that takes what it needs"
        )

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run in the flow and return the plain value; of an `async def`, a coroutine to await.

        `id="name"` pins the invocation id (unless the function has a parameter of that name). Raises KitaruContextError
        outside a flow's body, and the body's own exception.
        """
        scope = flow_scope(self._what)
        calls = scope.session.calls
        if self.is_async:
            if not scope.session.is_async:
                raise KitaruContextError(
                    f"the checkpoint {self.name!r} is async and was called in a flow that is not: make the flow "
                    f"`async def` and await it, or use {self.name}.submit(...)"
                )
            prepared = self._prepare(scope, args, kwargs)
            call = scope.session.awaited[prepared.invocation_id] = calls.call_async(prepared)
            return cast("R", call)
        return cast("R", calls.call_sync(self._prepare(scope, args, kwargs)))

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> CheckpointFuture[R]:
        """Start it beside the flow's body. Its id is taken now; futures among the arguments are awaited first."""
        from kitaru.runtime import submission

        scope = flow_scope(f"{self.name}.submit")
        return cast("CheckpointFuture[R]", submission.submit(self._prepare(scope, args, kwargs)))

    def map(self, *iterables: Iterable[object], **constants: object) -> FutureList[R]:
        """One call for each tuple of the zipped iterables, which have to be of one length, at most 10,000."""
        from kitaru.runtime import futures

        return self._many(futures.zipped(self.name, iterables), constants, "map")

    def product(self, *iterables: Iterable[object], **constants: object) -> FutureList[R]:
        """One call for each combination of the iterables, the last one moving fastest, at most 10,000."""
        from kitaru.runtime import futures

        return self._many(futures.crossed(self.name, iterables), constants, "product")

    @functools.cached_property
    def returns(self) -> object:
        """The return annotation, resolved; None where it cannot be."""
        from typing import get_type_hints

        try:
            return get_type_hints(self.fn).get("return")
        except Exception:
            return None

    def pause_after(self, error: BaseException, failed: int) -> float | None:
        """Seconds to let pass before the next try when `failed` tries were followed by another; None: this was the last."""
        if failed >= self.retries or not issubclass(type(error), self.retry_on):  # its own `__class__` is not asked
            return None
        try:
            return min(self.retry_delay * float(self.retry_backoff) ** failed, _LONGEST_PAUSE)
        except OverflowError:
            return _LONGEST_PAUSE

    def bind(self, args: tuple[object, ...], kwargs: dict[str, object]) -> dict[str, object]:
        """Arguments by parameter name, defaults filled in. Raises TypeError like a plain call."""
        names = self._parameters
        if names is not None and len(args) <= len(names):
            bound = dict(zip(names, args))  # noqa: B905  (the rest is filled in; naming `strict` costs a tenth of this)
            if not kwargs:
                if len(args) == len(names):
                    return bound
                rest = self._rests.get(len(args)) or self._rest_after(len(args))
                if rest is not None:
                    return bound | rest
            elif bound.keys().isdisjoint(kwargs):
                merged = {**self._defaults, **bound, **kwargs}
                if len(merged) == len(names) and all(name in merged for name in names):
                    # In the order of the parameters, so that the digest does not depend on how the call was written.
                    return {name: merged[name] for name in names}
        return self._bind_slowly(args, kwargs)

    def _rest_after(self, given: int) -> dict[str, object] | None:
        """The defaults of the parameters after the first `given`, None when one has none."""
        if given not in self._rests:
            names = (self._parameters or ())[given:]
            whole = all(name in self._defaults for name in names)
            self._rests[given] = {name: self._defaults[name] for name in names} if whole else None
        return self._rests[given]

    def _bind_slowly(self, args: tuple[object, ...], kwargs: dict[str, object]) -> dict[str, object]:
        import inspect

        try:
            bound = inspect.signature(self.fn).bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}(): {error}") from None
        bound.apply_defaults()
        return bound.arguments

    def _many(self, rows: list[tuple[object, ...]], constants: dict[str, object], verb: str) -> FutureList[R]:
        from kitaru.runtime import futures, submission

        scope = flow_scope(f"{self.name}.{verb}")
        if "id" in constants and not self._takes_id:
            raise KitaruUsageError(f"{self.name}.{verb}() makes many calls: they cannot all have the id that it was given")
        started = [submission.submit(self._prepare(scope, row, constants)) for row in rows]
        return cast("FutureList[R]", futures.FutureList(started))

    def _prepare(self, scope: FlowScope, args: tuple[object, ...], kwargs: dict[str, object]) -> Prepared:
        if not (scope.session.is_async and self.is_async):  # such a call parks when it is awaited
            scope.session.check_leaving()
        if "id" in kwargs and not self._takes_id:
            kwargs = {**kwargs}
            invocation_id = scope.pin(checked_name(kwargs.pop("id"), "id"))
        else:
            invocation_id = scope.take(self.name)
        return self.prepare(scope, invocation_id, args, kwargs)

    def prepare(self, scope: FlowScope, invocation_id: str, args: tuple[object, ...], kwargs: dict[str, object]) -> Prepared:
        """The call under an id that is taken."""
        session = scope.session
        session.history.made(invocation_id)
        if session.original is not None:
            session.original.history.made(invocation_id)
        return Prepared(self, session, invocation_id, args, kwargs)

    def __repr__(self) -> str:
        return f"<checkpoint {self.__module__}.{self.__qualname__}>"


class Prepared:
    """A call whose id is taken and which has not begun."""

    __slots__ = ("args", "checkpoint", "invocation_id", "kwargs", "parents", "session")

    def __init__(
        self,
        checkpoint: Checkpoint[..., object],
        session: Session,
        invocation_id: str,
        args: tuple[object, ...],
        kwargs: dict[str, object],
    ) -> None:
        self.checkpoint = checkpoint
        self.session = session
        self.invocation_id = invocation_id
        self.args = args
        self.kwargs = kwargs
        self.parents: tuple[int, ...] = ()


def _checked_classes(classes: type[Exception] | tuple[type[Exception], ...], what: str) -> tuple[type[Exception], ...]:
    given = classes if isinstance(classes, tuple) else (classes,)
    for cls in given:
        if not (isinstance(cls, type) and issubclass(cls, Exception)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise KitaruUsageError(f"{what} retry_on takes exception classes, not {cls!r}")
    return given


@overload
def checkpoint(fn: Callable[P, R], /) -> Checkpoint[P, R]: ...
@overload
def checkpoint(
    *,
    retries: int = 0,
    retry_delay: float = 0,
    retry_backoff: float = 2,
    retry_on: type[Exception] | tuple[type[Exception], ...] = Exception,
    timeout: float | None = None,
    cache: Cache = None,
    type: str | None = None,
    runtime: str = "inline",
) -> Callable[[Callable[P, R]], Checkpoint[P, R]]: ...
def checkpoint(
    fn: Callable[P, R] | None = None,
    /,
    *,
    retries: int = 0,
    retry_delay: float = 0,
    retry_backoff: float = 2,
    retry_on: type[Exception] | tuple[type[Exception], ...] = Exception,
    timeout: float | None = None,
    cache: Cache = None,
    type: str | None = None,
    runtime: str = "inline",
) -> Checkpoint[P, R] | Callable[[Callable[P, R]], Checkpoint[P, R]]:
    """Make a function a checkpoint.

    retries: tries after the first, for exceptions of `retry_on`, after `retry_delay` seconds times `retry_backoff` to
    the power of the tries before. timeout: seconds for one try. cache: reuse results across executions, True or a
    version text. type: a word for people and statistics. runtime: "inline", or "isolated" for a process of its own.
    """

    def decorate(function: Callable[P, R]) -> Checkpoint[P, R]:
        return Checkpoint(
            function,
            retries=retries,
            retry_delay=retry_delay,
            retry_backoff=retry_backoff,
            retry_on=retry_on,
            timeout=timeout,
            cache=cache,
            type=type,
            runtime=runtime,
        )

    return decorate if fn is None else decorate(fn)
