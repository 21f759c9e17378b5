"""`python -m benchmarks.population SIZE`: make a store of SIZE executions in the cache and print its folder."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from benchmarks.population import cache


def main() -> None:
    """Make a store; say on stderr how long it took and how large it is."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.population", description=__doc__)
    parser.add_argument("size", type=int, help="executions")
    parser.add_argument("--seed", type=int, default=cache.SEED, help="default %(default)s")
    parser.add_argument("--folder", type=Path, help="default: the user's cache folder, or KITARU_BENCH_CACHE")
    options = parser.parse_args()
    began = time.monotonic()
    store = cache.store_of(options.size, options.seed, options.folder)
    size = sum(path.stat().st_size for path in store.iterdir() if path.is_file())
    print(f"{time.monotonic() - began:.0f} s, {size / 1e9:.2f} GB", file=sys.stderr)
    print(store)


if __name__ == "__main__":
    main()
