"""Populations that were built once: a folder for each seed, size and version, outside the repository."""

from __future__ import annotations

import os
import shutil
import tempfile
from hashlib import blake2b
from pathlib import Path

from benchmarks.population import build
from kitaru.compose import projectors

SEED = 7
DRAWN = 2
"""The version of what is drawn: raise it with every change that draws another store from the same seed."""


def store_of(size: int, seed: int = SEED, folder: Path | None = None) -> Path:
    """The store of a population, built if it is not there. Whoever writes to it works on a copy."""
    place = folder or cache_folder()
    place.mkdir(parents=True, exist_ok=True)
    store = place / f"population-{seed}-{size}-{version()}"
    if not store.exists():
        with tempfile.TemporaryDirectory(prefix="building-", dir=place) as unfinished:
            made = Path(unfinished) / "store"
            build.build(made, seed, size)
            try:
                made.rename(store)
            except OSError:
                if not store.exists():  # another process was first
                    raise
    return store


def cache_folder() -> Path:
    """KITARU_BENCH_CACHE, else the user's cache folder."""
    named = os.environ.get("KITARU_BENCH_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kitaru-bench"


def version() -> str:
    """What a population depends on beside seed and size: what is drawn, and the versions of the read models."""
    models = " ".join(f"{made.name}{made.version}" for made in (make("") for make in projectors()))
    return f"{DRAWN}-{blake2b(models.encode(), digest_size=4).hexdigest()}"


def forget_others() -> None:
    """Remove the populations of other versions."""
    ending = f"-{version()}"
    for folder in cache_folder().glob("population-*"):
        if not folder.name.endswith(ending):
            shutil.rmtree(folder)
