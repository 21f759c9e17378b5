"""The limits that every execution is held to, each enforced before anything is appended."""

from __future__ import annotations

MAX_DEPTH = 200
"""Nesting levels in one value."""

MAX_PAYLOAD_BYTES = 64 * 1024 * 1024
"""Encoded bytes of one value."""

INLINE_PAYLOAD_BYTES = 16 * 1024
"""Encoded bytes up to which a payload stands beside its event; larger ones are shared blobs."""

MAX_NAME_CHARS = 256
"""Characters of a flow, checkpoint, wait, artifact or tag name, an idempotency key, a `by`."""

MAX_TAGS = 100
"""Tags of one execution at its start, or in one change."""

MAX_MAP_CALLS = 10_000
"""Calls of one `.map` or `.product`."""

MAX_OPEN_WAITS = 1_000
"""Waits and timers pending at once in one execution."""

MAX_EVENTS = 1_000_000
"""Events of one execution; the events that end it may still follow."""

MAX_LOG_LINE_BYTES = 16 * 1024
"""Bytes of one log line that are kept."""

MAX_LOG_LINES = 10_000
"""Log lines of one attempt, or of one task of a flow's body in one run, that are kept."""
