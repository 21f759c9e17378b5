"""How many: statistics over executions, their checkpoint calls and their LLM usage. The only importer of duckdb."""
