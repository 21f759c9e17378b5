"""Exceptions of checkpoints on their way to the flow: the first time, and after a recovery."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import kitaru
from kitaru import checkpoint, flow
from kitaru.domain.events import CheckpointFailed
from kitaru.store.log import EventLog
from tests.runtime.crashing import PATIENCE, copy_of, prefixes, recovered
from tests.runtime.records import detail_of, events_of

ran: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    ran.clear()


class PickyError(Exception):
    def __init__(self, first: str, *, second: int) -> None:
        super().__init__(f"{first} {second}")
        self.second = second


class ClientError(Exception):
    """As HTTP libraries raise them: with a response that does not encode."""

    def __init__(self, message: str, client: object) -> None:
        super().__init__(message)
        self.client = client
        self.status = 503


@checkpoint
def raises_picky() -> None:
    ran.append(1)
    raise PickyError("a", second=2)


@checkpoint
def raises_with_client() -> None:
    ran.append(1)
    raise ClientError("down", threading.Lock())


@checkpoint
def raises_local() -> None:
    class LocalError(Exception):
        pass

    raise LocalError("nobody can import me")


@checkpoint
def raises_huge() -> None:
    ran.append(1)
    raise PickyError("x" * 100_000, second=2)


@checkpoint
def raises_group() -> None:
    raise ExceptionGroup("both", [ValueError(1), KeyError("k")])


seen: list[BaseException] = []


@flow
def catches_picky() -> str:
    try:
        raises_picky()
    except PickyError as error:
        seen.append(error)
        return f"{error} {error.second}"
    return "?"


@flow
def catches_with_client() -> str:
    try:
        raises_with_client()
    except ClientError as error:
        return f"{error} {error.status}"
    return "?"


@flow
def catches_huge() -> int:
    try:
        raises_huge()
    except PickyError as error:
        return error.second
    return 0


@flow
def catches_group() -> list[str]:
    found = []
    try:
        raises_group()
    except* ValueError as group:
        found += [repr(error) for error in group.exceptions]
    except* KeyError as group:
        found += [repr(error) for error in group.exceptions]
    return found


def after_the_failure(log: EventLog, tried: Any) -> str:
    """An execution that crashed right after its first call had failed."""
    handle = tried.run()
    handle.wait(PATIENCE)
    left = next(e for e in prefixes(events_of(log, handle.exec_id)) if isinstance(e[-1], CheckpointFailed))
    ran.clear()
    return copy_of(log, left)


@pytest.mark.parametrize(
    ("tried", "expected"),
    [
        (catches_picky, "a 2 2"),
        (catches_with_client, "down 503"),
        (catches_huge, 2),
        (catches_group, ["ValueError(1)", "KeyError('k')"]),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_after_recovery_a_recorded_exception_has_the_same_class_and_attributes(
    log: EventLog, tried: Any, expected: Any
) -> None:
    assert tried.run().wait(PATIENCE) == expected
    assert recovered(log, tried, after_the_failure(log, tried)) == expected
    assert ran == []


def test_after_recovery_an_exception_of_an_unknown_class_is_user_code_error(log: EventLog) -> None:
    @flow
    def catches() -> list[str]:
        try:
            raises_local()
        except Exception as error:
            return [type(error).__name__, str(error)]
        return []

    assert catches.run().wait(PATIENCE)[0] == "LocalError"
    kind, text = recovered(log, catches, after_the_failure(log, catches))
    assert kind == "KitaruUserCodeError"
    assert "raises_local.<locals>.LocalError: nobody can import me" in text


def test_a_failing_str_of_an_exception_hurts_nobody(log: EventLog) -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise ValueError("no text")

    @checkpoint
    def mute() -> None:
        raise MuteError

    with pytest.raises(kitaru.KitaruUserCodeError) as raised:
        flow(lambda: mute()).run().wait(PATIENCE)
    assert isinstance(raised.value.__cause__, MuteError)


def test_the_failure_is_recorded_with_type_message_and_traceback(log: EventLog) -> None:
    handle = catches_picky.run()
    handle.wait(PATIENCE)
    failure = detail_of(log, handle.exec_id).calls[1].attempts[0].failure
    assert failure is not None
    assert failure.exception_type.endswith("test_exceptions.PickyError")
    assert failure.traceback is not None
    assert b"raises_picky" in (failure.traceback.data or b"")
