"""`@flow` and the handle on a run. Decorating costs no import beyond the standard library."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Generic, NamedTuple, ParamSpec, TypeVar, overload

from kitaru.domain.errors import KitaruUsageError
from kitaru.runtime import registry
from kitaru.runtime.options import (
    Cache,
    ImageSettings,
    checked_amount,
    checked_cache,
    checked_count,
    checked_limit,
    checked_name,
    checked_tags,
)
from kitaru.runtime.source import stamp_of, undecorated

if TYPE_CHECKING:
    from inspect import Signature

    from kitaru.runtime.handle import FlowHandle

P = ParamSpec("P")
R = TypeVar("R", covariant=True)

_COROUTINE = 0x80  # inspect.CO_COROUTINE, without importing inspect
_RESERVED = ("stack", "cache", "retries", "image", "exec_id", "from_", "overrides")


class RunSettings(NamedTuple):
    """What `options` sets for the runs and replays of one Flow object. `tags` come on top of the flow's own."""

    tags: tuple[str, ...] = ()
    metadata: Mapping[str, object] | None = None
    idempotency_key: str | None = None
    max_cost_usd: float | None = None
    max_tokens: int | None = None


class Flow(Generic[P, R]):
    """A decorated function: `.run(...)` starts one execution of it."""

    def __init__(
        self,
        fn: Callable[P, R],
        *,
        name: str | None,
        cache: Cache,
        retries: int,
        tags: Iterable[str],
        stack: str | None,
        image: ImageSettings | str | None,
        strict: bool,
        max_cost_usd: float | None,
        max_tokens: int | None,
    ) -> None:
        if getattr(fn, "__code__", None) is None:
            raise KitaruUsageError(f"@flow goes on a function, not on {fn!r}")
        self.source = undecorated(fn)
        code = self.source.__code__  # a decorator's wrapper takes *args and **kwargs; what it wraps says which
        parameters = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        for reserved in _RESERVED:
            if reserved in parameters:
                raise KitaruUsageError(
                    f"the flow {fn.__name__} has a parameter {reserved!r}, which is an option of run or replay; rename it"
                )
        if code.co_flags & 0x04 or code.co_posonlyargcount:
            raise KitaruUsageError(f"the flow {fn.__name__} takes positional-only or *args; give its parameters names")
        functools.update_wrapper(self, fn, updated=())  # a function may have an attribute `run`
        self.fn = fn
        self.__qualname__: str = fn.__qualname__
        self.name = checked_name(name if name is not None else fn.__name__, "the flow's name")
        self.cache = checked_cache(cache, f"@flow on {self.name}: cache")
        self.retries = checked_count(retries, f"@flow on {self.name}: retries")
        self.stack = stack
        self.image = image
        self.strict = strict
        self.max_cost_usd = checked_limit(max_cost_usd, f"@flow on {self.name}: max_cost_usd", checked_amount)
        self.max_tokens = checked_limit(max_tokens, f"@flow on {self.name}: max_tokens", checked_count)
        self.is_async = bool(fn.__code__.co_flags & _COROUTINE)
        self.tags = checked_tags(tags)
        self.settings = RunSettings()
        self.stamp = stamp_of(self.source.__code__.co_filename)
        key = (self.source.__code__.co_filename, self.source.__qualname__, self.name)
        registry.flows.pop(key, None)
        registry.flows[key] = self

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Never: a flow is started by `run`. Raises KitaruUsageError."""
        raise KitaruUsageError(f"{self.name} is a flow: start it by {self.name}.run(...), which gives a handle")

    def run(self, /, *args: object, **inputs: object) -> FlowHandle[R]:
        """Start one execution and return its handle at once.

        Inputs are the function's parameters; `stack`, `cache`, `retries` and `image` are options of the run. Raises
        KitaruUsageError for inputs that do not fit or do not encode; never what the body raises.
        """
        from kitaru.runtime import start

        return start.run(self, args, inputs)

    def replay(
        self, exec_id: str, *, from_: str, overrides: Mapping[str, object] | None = None, **inputs: object
    ) -> FlowHandle[R]:
        """Start a new execution from an old one's history: what was recorded before `from_` is taken over.

        from_: a checkpoint's name, invocation id or call id. overrides: results by `checkpoint.<the same>`. inputs replace
        the old ones by name. Raises KitaruStateError, KitaruNotFoundError, KitaruUsageError.
        """
        from kitaru.runtime import replaying, start

        return replaying.replay(start.open_log(), exec_id, self, from_, overrides, inputs)

    @functools.cached_property
    def signature(self) -> Signature:
        """The function's parameters."""
        import inspect

        return inspect.signature(self.fn)

    @functools.cached_property
    def returns(self) -> object:
        """The return annotation, resolved; None where it cannot be."""
        from typing import get_type_hints

        try:
            return get_type_hints(self.fn).get("return")
        except Exception:
            return None

    def options(
        self,
        *,
        tags: Iterable[str] | None = None,
        metadata: Mapping[str, object] | None = None,
        idempotency_key: str | None = None,
        max_cost_usd: float | None = None,
        max_tokens: int | None = None,
    ) -> Flow[P, R]:
        """The same flow with these set for its runs and replays; what is not named stays. Raises KitaruUsageError.

        A replay has the old execution's: tags are added to them, metadata is merged into them, budgets replace them.
        """
        changes: dict[str, object] = {}
        if tags is not None:
            more = changes["tags"] = checked_tags((*self.settings.tags, *checked_tags(tags)))
            checked_tags((*self.tags, *more))  # both together are held to the limit
        if metadata is not None:
            for key in metadata:
                checked_name(key, "a metadata key")
            changes["metadata"] = dict(metadata)
        if idempotency_key is not None:
            changes["idempotency_key"] = checked_name(idempotency_key, "the idempotency key")
        if max_cost_usd is not None:
            changes["max_cost_usd"] = checked_amount(max_cost_usd, "max_cost_usd")
        if max_tokens is not None:
            changes["max_tokens"] = checked_count(max_tokens, "max_tokens")
        twin: Flow[P, R] = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin.settings = self.settings._replace(**changes)
        return twin

    def __repr__(self) -> str:
        return f"<flow {self.name} ({self.__module__}.{self.__qualname__})>"


@overload
def flow(fn: Callable[P, R], /) -> Flow[P, R]: ...
@overload
def flow(
    *,
    name: str | None = None,
    cache: Cache = None,
    retries: int = 0,
    tags: Iterable[str] = (),
    stack: str | None = None,
    image: ImageSettings | str | None = None,
    strict: bool = False,
    max_cost_usd: float | None = None,
    max_tokens: int | None = None,
) -> Callable[[Callable[P, R]], Flow[P, R]]: ...
def flow(
    fn: Callable[P, R] | None = None,
    /,
    *,
    name: str | None = None,
    cache: Cache = None,
    retries: int = 0,
    tags: Iterable[str] = (),
    stack: str | None = None,
    image: ImageSettings | str | None = None,
    strict: bool = False,
    max_cost_usd: float | None = None,
    max_tokens: int | None = None,
) -> Flow[P, R] | Callable[[Callable[P, R]], Flow[P, R]]:
    """Make a function a flow.

    retries: runs of the whole body after the first, completed checkpoints reused. cache: the checkpoints' default.
    strict: a recorded call with other inputs is divergence. image: recorded, for stacks that build one. max_cost_usd,
    max_tokens: what an execution may spend on LLM calls; see `kitaru.check_budget`.
    """

    def decorate(function: Callable[P, R]) -> Flow[P, R]:
        return Flow(
            function,
            name=name,
            cache=cache,
            retries=retries,
            tags=tags,
            stack=stack,
            image=image,
            strict=strict,
            max_cost_usd=max_cost_usd,
            max_tokens=max_tokens,
        )

    return decorate if fn is None else decorate(fn)


def __getattr__(name: str) -> object:
    if name == "FlowHandle":
        from kitaru.runtime.handle import FlowHandle

        return FlowHandle
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["Flow", "FlowHandle", "RunSettings", "flow"]
