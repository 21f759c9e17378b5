"""Which bases a process reads a store from, and who builds the next ones."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from typing import NamedTuple

from kitaru import python
from kitaru.analytics import generations
from kitaru.analytics.generations import Family, Generation
from kitaru.store.log import Reads


class Limits(NamedTuple):
    """How much is read row by row, in numbers of executions.

    small: a store of fewer has no base, its rows are read at each start. small_events: of fewer events none of calls.
    few, part: the next generation is built when so many changed, and one in so many besides. gain: from so many on a newer
    base is worth to let go of what is in memory. far_behind: so many events since the base are not read as a tail, the next
    generation is waited for. apart: what is waited for is built in a child process. at_once: how many are read in one query.
    """

    small: int = 20_000
    small_events: int = 50_000
    few: int = 500
    part: int = 500
    gain: int = 400
    far_behind: int = 400_000
    apart: bool = True
    at_once: int = 20_000


LIMITS = Limits()
_PAUSE = 1.0

_LAST_NUMBER = "SELECT coalesce(max(number), 0) FROM executions"


class Bases:
    """The bases of a store on disk."""

    def __init__(self, folder: str, limits: Limits) -> None:
        self.limits = limits
        self._folder = folder
        self._place = os.path.join(folder, generations.FOLDER)
        self._seen: int | None = None
        self._builder: subprocess.Popen[bytes] | None = None
        self._began = 0.0
        self._executions = 0

    def has_news(self) -> bool:
        """Whether a generation may have come or gone since the last `find`."""
        return self._stamp() != self._seen

    def find(self, moment: Reads) -> dict[Family, Generation]:
        """The newest generations that fit the store."""
        self._seen = self._stamp()
        found = (generations.find(moment, self._place, family) for family in generations.FAMILIES)
        return {generation.family: generation for generation in found if generation is not None}

    def lacking(self, moment: Reads, positions: Mapping[Family, int]) -> list[Family]:
        """Those of these families whose rows, known up to a position, are too far behind to be read one by one."""
        last = moment.last_position()
        self._executions = int(str(moment.query(_LAST_NUMBER)[0][0]))
        return [family for family, position in positions.items() if self._is_far(family, position, last)]

    def _is_far(self, family: Family, position: int, last: int) -> bool:
        if position > 0:
            return last - position > self.limits.far_behind
        return self._executions >= self.limits.small or (family == "steps" and last >= self.limits.small_events)

    @contextlib.contextmanager
    def built(self, reads: Reads, families: Sequence[Family]) -> Generator[dict[Family, Generation]]:
        """Build what is lacking and wait for it. Where the store's folder cannot be written, in a temporary one, whose
        generations are given, and are gone at the end for all who have not opened them.
        """
        with contextlib.suppress(OSError):
            generations.make_place(self._folder)
            if self._build(reads, self._place, families):
                yield {}
                return
        place = tempfile.mkdtemp(prefix="kitaru-statistics-")
        try:
            with contextlib.suppress(OSError):
                self._build(reads, place, families)
            yield {each.family: each for each in generations.listed(place)}
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def _build(self, reads: Reads, place: str, families: Sequence[Family]) -> bool:
        if self.limits.apart:
            return _start(self._folder, place, families).wait() == 0
        from kitaru.analytics.build import build

        return all(build(reads, place, family) is not None for family in families)

    def forget(self) -> None:
        """Remove all generations: one of them cannot be read."""
        generations.forget(self._folder)

    def is_behind(self, changed: int) -> bool:
        """Whether a tail of so many changed executions is worth the next generation."""
        return changed > self.limits.few + self._executions // self.limits.part

    def build_beside(self, families: Sequence[Family]) -> None:
        """Have the next generations built, if none is being built from here. Nobody waits for it."""
        if not families or (self._builder is not None and self._builder.poll() is None):
            return
        if time.monotonic() - self._began < _PAUSE or not os.access(self._folder, os.W_OK):
            return
        with contextlib.suppress(OSError):
            generations.make_place(self._folder)
            self._began = time.monotonic()
            self._builder = _start(self._folder, self._place, families)
            threading.Thread(target=self._builder.wait, name="kitaru-statistics", daemon=True).start()

    def _stamp(self) -> int | None:
        try:
            return os.stat(self._place).st_mtime_ns
        except OSError:
            return None


def _start(folder: str, place: str, families: Sequence[Family]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        python.command("kitaru.analytics.build", folder, place, *families),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        process_group=0,  # Ctrl-C is for who asks
        env=python.environment(),
    )
