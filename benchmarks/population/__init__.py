"""Stores as they are in use: many executions of many flows, drawn from a seed, the same for ever.

`python -m benchmarks.population SIZE` makes one in the cache and prints its folder; `cache.store_of` does so for measures.
"""
