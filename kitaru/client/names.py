"""Who gives a command."""

from __future__ import annotations


def current_user() -> str:
    """The operating system's user, recorded with what was asked from outside."""
    import getpass

    try:
        return getpass.getuser()[:256]
    except (KeyError, OSError):
        return "unknown"
