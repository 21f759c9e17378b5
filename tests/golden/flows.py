"""The flows whose executions stand in the golden stores. What they call, and in which order, never changes."""

from __future__ import annotations

import kitaru
from kitaru import checkpoint, flow, sleep, wait

ran: list[str] = []
"""What really ran, for the tests."""
world = {"broken": True, "factor": 2}
"""What the steps depend on beside their inputs."""


@checkpoint(type="tool_call")
def fetch(word: str) -> dict[str, object]:
    ran.append(f"fetch {word}")
    return {"word": word, "sizes": [1, 2.5, None], "pair": (1, b"\x00\xff")}


@checkpoint(retries=1)
def shaky(word: str) -> str:
    ran.append(f"shaky {word}")
    if ran.count(f"shaky {word}") == 1:
        raise ValueError("not yet")
    return word.upper()


@checkpoint(cache="1")
def cached(number: int) -> int:
    ran.append(f"cached {number}")
    return number * number


@checkpoint
def long_text(letter: str) -> str:
    ran.append(f"long_text {letter}")
    kitaru.log(source="disk")
    return letter * 16_500


@checkpoint
def fragile(number: int) -> int:
    ran.append(f"fragile {number}")
    if world["broken"]:
        raise KeyError("broken")
    return number + 1


@checkpoint
def combine(*parts: object) -> int:
    ran.append(f"combine {len(parts)}")
    return len(parts)


@flow(tags=("golden",))
def everything(word: str = "saw") -> list[object]:
    """Most of what a flow may do without waiting."""
    kitaru.log(tier="gold", scores={"a": 1})
    kitaru.tag("seen")
    first = fetch.submit(word)
    second = shaky(word)
    kitaru.save("report", {"word": word}, type="context", tags=["t"])
    third = cached(7)
    text = long_text("x")
    return [first.result(), second, third, len(text), combine(first, second, id="last")]


@flow
def breaks(number: int = 3) -> int:
    """Its second step fails as long as the world is broken."""
    return fragile(cached(number))


@flow
def asks(item: str = "glue") -> list[object]:
    """Waits for a number, sleeps, and goes on."""
    before = fetch(item)
    amount = wait(schema=int, name="amount", question="How many?", metadata={"unit": "box"}, timeout=0)
    sleep(3600)
    return [before["word"], amount, combine(item, amount)]


@flow
def hurries() -> list[object]:
    """Waits for a day, and takes the default then."""
    return [wait(schema=str, name="word", expires_in=86_400, default="late", timeout=0), combine(1)]


@flow
def depends() -> int:
    """A step whose inputs are not the same when it goes on."""
    number = cached(world["factor"])
    wait(name="gate", timeout=0)
    return number
