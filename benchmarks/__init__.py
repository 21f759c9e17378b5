"""What Kitaru costs, as ratios to baselines that alternate with it in the same run: `python -m benchmarks`.

Every contender (Kitaru, raw SQLite, a peer) is a process of its own that answers rounds; `rounds` makes them take
turns, `measures/` has one module for each group of figures, `marks` says what was to be reached.
"""
