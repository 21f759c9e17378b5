"""The store as Parquet files: six tables, kept up to date by later exports. See `run.export`."""
