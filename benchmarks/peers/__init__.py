"""Other engines doing the same work. They run in `.venv-peers`, which has neither Kitaru nor its dependencies."""
