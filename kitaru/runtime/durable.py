"""Making one call of a flow's body durable: what an adapter does there becomes a checkpoint of its own, each try an attempt.

A checkpoint is declared once and called often; this is declared where it is called, with what the call says of itself.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping

from kitaru.domain.errors import KitaruContextError
from kitaru.runtime.checkpoint import Checkpoint, Prepared
from kitaru.runtime.scope import flow_scope

Pause = Callable[[BaseException, int], float | None]
"""Given why a try failed, and how many tries were followed by another: seconds to the next, None when it was the last."""


def call_durably(
    fn: Callable[..., object],
    *args: object,
    name: str,
    type: str,
    inputs: Mapping[str, object],
    numbered: bool = False,
    pause_after: Pause | None = None,
    timeout: float | None = None,
    returns: object = None,
) -> object:
    """Call `fn` as a checkpoint of the flow's body and give what it returned, or what is recorded of it.

    fn: a function of a module; `args` are not recorded, `inputs` are, by their digest: with others it is another call.
    name, type: the checkpoint's; its id is `name`, `name_2`, …, or with `numbered` `name_1`, `name_2`, …, which then is its
    name, too. pause_after: whether, and when, a failed try is followed by another. returns: the type to decode the result
    to. Raises KitaruContextError outside a flow's body, and what the last try raised.
    """
    prepared = _prepared(fn, args, name, type, inputs, numbered, pause_after, timeout, returns)
    return prepared.session.calls.call_sync(prepared)


def call_durably_async(
    fn: Callable[..., Coroutine[object, object, object]],
    *args: object,
    name: str,
    type: str,
    inputs: Mapping[str, object],
    numbered: bool = False,
    pause_after: Pause | None = None,
    timeout: float | None = None,
    returns: object = None,
) -> Coroutine[object, object, object]:
    """The same in an async flow, where other tasks go on meanwhile. The id is taken when this is called."""
    if not flow_scope(name).session.is_async:
        raise KitaruContextError(f"{name} is async and was called in a flow that is not: make the flow `async def`")
    prepared = _prepared(fn, args, name, type, inputs, numbered, pause_after, timeout, returns)
    session = prepared.session
    call = session.awaited[prepared.invocation_id] = session.calls.call_async(prepared)
    return call


class _Call(Checkpoint[..., object]):
    """A checkpoint for one call."""

    def __init__(
        self,
        fn: Callable[..., object],
        name: str,
        type: str,
        inputs: Mapping[str, object],
        pause_after: Pause | None,
        timeout: float | None,
        returns: object,
    ) -> None:
        super().__init__(
            fn, retries=0, retry_delay=0, retry_backoff=1, retry_on=Exception, timeout=timeout, cache=None, type=type,
            runtime="inline",
        )  # fmt: skip
        self.name = name
        self.returns = returns
        self._inputs = dict(inputs)
        self._pause_after = pause_after

    def bind(self, args: tuple[object, ...], kwargs: dict[str, object]) -> dict[str, object]:
        """What is recorded of the inputs."""
        return self._inputs

    def pause_after(self, error: BaseException, failed: int) -> float | None:
        """Seconds to the next attempt, None when this was the last."""
        return None if self._pause_after is None else self._pause_after(error, failed)


def _prepared(
    fn: Callable[..., object],
    args: tuple[object, ...],
    name: str,
    type: str,
    inputs: Mapping[str, object],
    numbered: bool,
    pause_after: Pause | None,
    timeout: float | None,
    returns: object,
) -> Prepared:
    scope = flow_scope(name)
    call = _Call(fn, name, type, inputs, pause_after, timeout, returns)
    if not (scope.session.is_async and call.is_async):  # such a call parks when it is awaited
        scope.session.check_leaving()
    invocation_id = scope.take(name, numbered=numbered)
    if numbered:
        call.name = invocation_id.rpartition("/")[2]
    return call.prepare(scope, invocation_id, args, {})
