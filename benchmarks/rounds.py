"""Contenders take turns: each round asks every one of them once, and a ratio is the median of the rounds' ratios."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parents[1]
MIN_ROUNDS = 7


class ContenderError(Exception):
    """A contender did not answer; the message holds what it wrote to stderr."""


@dataclass(frozen=True)
class Plan:
    """How a contender is started, and how much it does in a round. `unit` is what one count is called in figures."""

    name: str
    command: Sequence[str]
    count: int
    environment: Mapping[str, str] = field(default_factory=dict)


def python(module: str, *arguments: object, interpreter: str = sys.executable) -> list[str]:
    """The command line of a contender's module."""
    return [interpreter, "-m", module, *map(str, arguments)]


@dataclass(frozen=True)
class Round:
    """One turn of one contender. `extra` is what it told beside its times."""

    seconds: float
    cpu_seconds: float
    count: int
    extra: Mapping[str, float]

    @property
    def rate(self) -> float:
        """Counts a second."""
        return self.count / self.seconds


class Contender:
    """A running contender. Use it as a context manager; it ends when its stdin closes."""

    def __init__(self, plan: Plan, stderr: Path) -> None:
        self.plan = plan
        self._stderr_path = stderr
        self._stderr = stderr.open("wb")
        self._process = subprocess.Popen(
            plan.command,
            cwd=ROOT,
            env={**os.environ, **plan.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
        )

    def __enter__(self) -> Self:
        try:
            self._answer()
        except ContenderError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
            self._process.wait(timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdout, self._stderr):
            if pipe is not None:
                pipe.close()

    def turn(self) -> Round:
        """Ask for one round."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{self.plan.count}\n")
            self._process.stdin.flush()
        except OSError as error:
            raise ContenderError(self._why()) from error
        told = self._answer()
        seconds, cpu_seconds = told.pop("seconds"), told.pop("cpu_seconds")
        return Round(seconds, cpu_seconds, self.plan.count, told)

    def _answer(self) -> dict[str, float]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ContenderError(self._why())
        return json.loads(line)

    def _why(self) -> str:
        self._process.wait()
        last = self._stderr_path.read_text(errors="replace").strip().splitlines()[-12:]
        return "\n".join([f"{self.plan.name} ended with exit code {self._process.returncode}", *last])


@dataclass(frozen=True)
class Series:
    """All rounds of contenders that took turns, in order."""

    rounds: Mapping[str, Sequence[Round]]

    def rate(self, name: str) -> float:
        """Median counts a second."""
        return statistics.median(r.rate for r in self.rounds[name])

    def seconds(self, name: str) -> float:
        """Median seconds for one count."""
        return statistics.median(r.seconds / r.count for r in self.rounds[name])

    def cpu_seconds(self, name: str) -> float:
        """Median CPU seconds of one count, all threads."""
        return statistics.median(r.cpu_seconds / r.count for r in self.rounds[name])

    def extra(self, name: str, key: str) -> float:
        """Median of what the contender told under `key`."""
        return statistics.median(r.extra[key] for r in self.rounds[name])

    def speed_ratio(self, name: str, baseline: str) -> float:
        """Median over the rounds of rate / the baseline's rate in the same round: above 1 is faster."""
        pairs = zip(self.rounds[name], self.rounds[baseline], strict=True)
        return statistics.median(mine.rate / theirs.rate for mine, theirs in pairs)

    def cost_ratio(self, name: str, baseline: str) -> float:
        """Median over the rounds of time / the baseline's time in the same round: below 1 is faster."""
        pairs = zip(self.rounds[name], self.rounds[baseline], strict=True)
        return statistics.median(theirs.rate / mine.rate for mine, theirs in pairs)


def take_turns(plans: Sequence[Plan], rounds: int, folder: Path) -> Series:
    """Start all contenders, then let each do its count once a round, in an order that moves on by one each round."""
    if rounds < 1:
        raise ValueError("at least one round")
    taken: dict[str, list[Round]] = {plan.name: [] for plan in plans}
    with ExitStack() as stack:
        contenders = [stack.enter_context(Contender(plan, folder / f"{_file_name(plan.name)}.log")) for plan in plans]
        for number in range(rounds):
            first = number % len(contenders)
            for contender in [*contenders[first:], *contenders[:first]]:
                taken[contender.plan.name].append(contender.turn())
    return Series(taken)


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name)
