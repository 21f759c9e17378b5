"""One module for each group of figures; each has IDS and `measure(setting) -> rows`."""
