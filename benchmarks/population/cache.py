"""Populations that were built once: a folder for each seed, size and version, outside the repository."""

from __future__ import annotations

import os
import shutil
import tempfile
from hashlib import blake2b
from pathlib import Path

from benchmarks.population import build, chunk, draw, usage
from kitaru.compose import projectors

SEED = 7
_SOURCES = (build, chunk, draw, usage)


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
    """What a population depends on beside seed and size: the code that draws it, and the read models' versions."""
    digest = blake2b(digest_size=6)
    for module in _SOURCES:
        assert module.__file__ is not None
        digest.update(Path(module.__file__).read_bytes())
    for make in projectors():
        projector = make("")
        digest.update(f"{projector.name} {projector.version}".encode())
    return digest.hexdigest()


def forget_others() -> None:
    """Remove the populations of other versions."""
    ending = f"-{version()}"
    for folder in cache_folder().glob("population-*"):
        if not folder.name.endswith(ending):
            shutil.rmtree(folder)
