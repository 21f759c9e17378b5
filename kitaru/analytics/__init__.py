"""How many: grouped statistics on DuckDB, and export. The only package that imports duckdb, and only when it is used."""
