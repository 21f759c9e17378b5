"""The processes that take turns: each is started as `python -m benchmarks.contenders.<name>` and answers rounds."""
