"""The flows that are killed. Every body writes an fsynced line to a ledger outside the store before it does anything."""

from __future__ import annotations

import asyncio
import json
import os
import random
import time

import kitaru
from kitaru import checkpoint, flow


def note(name: str) -> int:
    """The line of one run of a body, and its number in the ledger: what an outside provider would hand out."""
    line = {"key": kitaru.idempotency_key(), "pid": os.getpid(), "name": name}
    fd = os.open(os.environ["CRASH_LEDGER"], os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(fd, (json.dumps(line) + "\n").encode())
        os.fsync(fd)
        return len(os.pread(fd, 1 << 22, 0).splitlines())
    finally:
        os.close(fd)


def work() -> None:
    time.sleep(random.uniform(0, 2 * float(os.environ.get("CRASH_STEP_SECONDS", "0"))))


@checkpoint
def step(place: int, before: int = 0) -> int:
    note(f"step {place}")
    work()
    return (before * 31 + place) % 1_000_003


@checkpoint(retries=2)
def flaky(place: int) -> list[int]:
    if note(f"flaky {place}") % 2:
        raise ConnectionError("the first answer is never there")
    return [place]


@checkpoint
def refused(place: int) -> int:
    note(f"refused {place}")
    raise LookupError("gone", place)


@checkpoint
async def step_async(place: int, before: int = 0) -> int:
    note(f"async {place}")
    await asyncio.sleep(random.uniform(0, 2 * float(os.environ.get("CRASH_STEP_SECONDS", "0"))))
    return (before * 31 + place) % 1_000_003


@checkpoint
def ask_provider(question: int) -> dict[str, int]:
    """The provider's own number of this request is part of its answer."""
    return {"question": question, "request": note(f"ask {question}")}


@checkpoint
def wait_for_file(name: str, number: int) -> int:
    note(f"waiting {number}")
    while not os.path.exists(name):
        time.sleep(0.005)
    return number


@checkpoint
def big(place: int) -> str:
    note(f"big {place}")
    return f"{place}" * 20_000


@flow
def chain(length: int) -> int:
    """One call after the other, each with the result before it."""
    value = 1
    for place in range(length):
        value = step(place, value)
    return value


@flow
def fan(width: int) -> list[int]:
    """Calls in threads, and one that takes their futures."""
    first = step.map(range(width), before=7)
    joined = step.submit(99, before=first[0])
    return [*first.result(), joined.result()]


@flow
def branches(place: int) -> list[object]:
    """Attempts that fail, and a failure that the body lives with."""
    found: list[object] = [flaky(place)]
    try:
        refused(place)
    except LookupError as error:
        found.append(list(error.args))
        found.append(step(place, 5))
    found.append(len(big(place)))
    return found


@flow
async def gathered(width: int) -> list[list[int]]:
    """Two steps in each of several tasks."""

    async def two(place: int) -> int:
        return await step_async(place + 100, await step_async(place))

    first = await asyncio.gather(*(two(place) for place in range(width)))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(two(place + 10)) for place in range(width)]
    return [list(first), [task.result() for task in tasks]]


@flow(retries=1)
def facts(length: int) -> int:
    """Facts beside the results, and a body that fails once and is run again."""
    kitaru.tag("crashed")
    value = step(1)
    kitaru.log(place=1, nested={"a": 1})
    kitaru.save("report", {"value": value})
    if not kitaru.is_replay():
        raise ConnectionError("not yet")
    for place in range(2, length):
        value = step(place, value)
        kitaru.progress(f"{place} of {length}")
    return value


@flow
def provider(questions: int) -> list[dict[str, int]]:
    return [ask_provider(question) for question in range(questions)]


@flow
def held(file: str, before: int, after: int) -> list[int]:
    """A call that lasts until a file is there, with others around it."""
    values = [step(place) for place in range(before)]
    values.append(wait_for_file(file, before))
    return values + [step(place) for place in range(before + 1, before + 1 + after)]


MODEL = "openai/gpt-4o-mini"


@checkpoint
def ask_twice(place: int) -> list[str]:
    return [kitaru.llm(f"{place} inside, {half}", model=MODEL) for half in ("first", "second")]


@flow
def asked(questions: int) -> list[object]:
    """Calls of a model, one after the other: in the body, and two at a time in checkpoints."""
    return [kitaru.llm(f"{place} in the body", model=MODEL) if place % 3 else ask_twice(place) for place in range(questions)]


@flow
async def asked_together(questions: int) -> list[list[str]]:
    """Calls of a model beside each other, then one that has to wait for them."""
    first = await asyncio.gather(*(kitaru.llm_async(f"{place} together", model=MODEL) for place in range(questions)))
    return [list(first), [await kitaru.llm_async("after them", model=MODEL)]]
