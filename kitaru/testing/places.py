"""A store and a clock for as long as a test lasts."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from kitaru import compose
from kitaru.runtime import process
from kitaru.runtime.clock import install
from kitaru.settings import StoreChoice, configure, configured
from kitaru.testing.clock import FakeClock

_CONFIG = "KITARU_CONFIG_DIR"


@contextmanager
def temporary_store() -> Generator[Path]:
    """A store in a new folder, used by this process until the context ends, and without fsync.

    At its end running executions are waited for, the store is closed and removed, and what was configured before holds
    again. The user's own list of trusted folders is not touched: KITARU_CONFIG_DIR is in that folder, too.
    """
    store, durability, config = configured.store, configured.durability, os.environ.get(_CONFIG)
    with TemporaryDirectory(prefix="kitaru-") as folder:
        choice = StoreChoice(os.path.join(folder, "store"), "of a test")
        configure(store=choice.location, durability="os")
        os.environ[_CONFIG] = os.path.join(folder, "config")
        try:
            yield Path(choice.location)
        finally:
            process.join_all()
            compose.close_log(choice)
            configure(store=store, durability=durability)
            if config is None:
                del os.environ[_CONFIG]
            else:
                os.environ[_CONFIG] = config


@contextmanager
def fake_clock(now: int | None = None) -> Generator[FakeClock]:
    """A FakeClock for the executions that start, or go on, in this process while the context lasts."""
    clock = FakeClock() if now is None else FakeClock(now)
    before = install(clock)
    try:
        yield clock
    finally:
        install(before)
