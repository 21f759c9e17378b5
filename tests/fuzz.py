"""What is typed or sent by somebody who means no good, or does not know: control characters, NUL, surrogates, megabytes,
deep JSON, NaN, SQL and shell text, paths."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

MEGABYTE = "x" * 1_000_000
NASTY = [
    "", " ", "\x00", "a\x00b", "\x1b[2J\x1b]0;title\x07", "\r\n", "\u202e\u2066", "\ud800", "\udc80z", "\U000e0041",
    "\ufeff",
    "'; DROP TABLE events; --", "1 OR 1=1", '" UNION SELECT * FROM streams --', "%s%n{0}{x.__class__}", "$(touch canary)",
    "`touch canary`", "; touch canary", "| cat", "&& exit", "-", "--", "--help", "-o", "..", "../..", "./.", "a/../../b",
    "nan", "NaN", "Infinity", "-0", "1e400", "9" * 400, "0x10", "true", "null", "{}", "[]", '{"a": NaN}', "[" * 3_000,
    '{"a":' * 3_000, "{" * 50, '"\\ud800"', "metadata:", "a:b:c", "time:day", "2020-13-45", "99999999d", "7d", "@", "@-",
    "@missing", "https://x", "postgresql://x", "file:///x", MEGABYTE, "é" * 300, "k" * 257,
    "00000000-0000-7000-8000-000000000000",
]  # fmt: skip
texts = (
    st.sampled_from(NASTY)
    | st.text(max_size=20)
    | st.binary(max_size=12).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
)
numbers = st.integers(-(2**70), 2**70) | st.floats()
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


def deep(levels: int) -> Any:
    """A list in a list, and so on."""
    found: Any = 1
    for _ in range(levels):
        found = [found]
    return found
