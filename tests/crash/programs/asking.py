"""Flows that wait for an answer and for time, beside calls that write to the ledger of `flows`."""

from __future__ import annotations

import asyncio

from flows import step, step_async

import kitaru
from kitaru import flow


@flow
def asks(stay: float = 0.0) -> list[int]:
    """One question, with a call before it and two after."""
    before = step(0)
    answer = kitaru.wait(schema=int, name="n", timeout=stay)
    return [answer, step(1, before), *step.map([2], before=answer).result()]


@flow
def interview(stay: float, seconds: float) -> list[int]:
    """Questions and sleeps among calls: it goes on only from what is recorded."""
    first = step(0)
    kitaru.sleep(seconds)
    second = kitaru.wait(schema=int, name="second", timeout=stay)
    found = [first, step(1, second), *step.map(range(2, 5), before=second).result()]
    third = kitaru.wait(schema=int, name="third", timeout=stay)
    kitaru.sleep(seconds)
    kitaru.wait(name="gate", timeout=stay)
    return [*found, third, step(5, third), step(6, found[-1])]


@flow
async def interviews(stay: float, seconds: float) -> list[int]:
    """The same in branches: questions, sleeps and calls are open at the same time."""

    async def branch(place: int) -> int:
        before = await step_async(place)
        answer = await kitaru.wait_async(schema=int, name=f"of {place}", timeout=stay)
        assert isinstance(answer, int)
        return await step_async(place + 10, before + answer)

    async def nap(place: int) -> int:
        await kitaru.sleep_async(seconds)
        return await step_async(place)

    found = await asyncio.gather(branch(0), nap(1), branch(2))
    await kitaru.sleep_async(seconds)
    async with asyncio.TaskGroup() as group:
        last = group.create_task(branch(3))
    return [*found, last.result()]


@flow
def raced(default: int | None, stay: float, lifetime: float) -> int:
    """An even answer is its value; with an odd one it fails, and without one."""
    instead = {} if default is None else {"default": default}
    value = kitaru.wait(schema=int, name="n", timeout=stay, expires_in=lifetime, **instead)
    if value % 2:
        raise ValueError(value)
    return value
