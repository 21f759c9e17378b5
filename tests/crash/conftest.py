"""Real processes on real files: the fork server, a folder a test, and the seed that brings a random test back."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.children import ForkServer
from tests.crash.shim import NoShim, compile_shim


@pytest.fixture
def seed() -> int:
    """KITARU_SEED, or one drawn from the run's own; printed, so that a failure says what brings it back."""
    given = os.environ.get("KITARU_SEED")
    drawn = int(given) if given else random.getrandbits(32)
    print(f"KITARU_SEED={drawn} draws the same again")
    return drawn


@pytest.fixture
def chance(seed: int) -> random.Random:
    """The test's randomness."""
    return random.Random(seed)


@pytest.fixture(scope="session")
def forkserver() -> Iterator[ForkServer]:
    """Where the processes come from."""
    server = ForkServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shared library that makes the disk fail; the test is skipped, and says so, where it cannot be had."""
    try:
        return compile_shim(tmp_path_factory.mktemp("shim"))
    except NoShim as reason:
        pytest.skip(f"not tested here: {reason}")


@pytest.fixture(scope="session")
def shimmed(shim: Path) -> Iterator[ForkServer]:
    """A fork server whose children's system calls go through the shim."""
    server = ForkServer({"LD_PRELOAD": str(shim)})
    yield server
    server.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A test's own: `store`, `config`, and what its processes say."""
    return tmp_path
