"""LLM calls: what is asked, of whom, and what it used. `call` is the way in; `protocol` is where a provider is put in."""
