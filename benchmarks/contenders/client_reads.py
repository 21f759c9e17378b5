"""What the client answers, warm: one execution whole, or a page of many by one filter."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from benchmarks.contenders.fill import START
from benchmarks.turns import Answer, serve
from kitaru import KitaruClient

_FIRST = datetime.fromtimestamp(START / 1e6, UTC)
PAGE = 20


def reads(client: KitaruClient, exec_id: str) -> dict[str, Callable[[], object]]:
    """Each read by its name; the last three filters match nothing."""
    executions = client.executions
    return {
        "get": lambda: executions.get(exec_id),
        "list": lambda: executions.list(limit=PAGE),
        "list-flow": lambda: executions.list(flow="triage", limit=PAGE),
        "list-status": lambda: executions.list(status="failed", limit=PAGE),
        "list-stack": lambda: executions.list(stack="local", limit=PAGE),
        "list-tag": lambda: executions.list(tags=["customer"], limit=PAGE),
        "list-since": lambda: executions.list(since=_FIRST + timedelta(hours=20), limit=PAGE),
        "list-until": lambda: executions.list(until=_FIRST + timedelta(minutes=20), limit=PAGE),
        "list-where": lambda: executions.list(where={"customer_tier": "enterprise"}, limit=PAGE),
        "list-rare": lambda: executions.list(where={"score": 99}, limit=PAGE),
        "list-several": lambda: executions.list(flow="invoice", status="failed", tags=["customer"], limit=PAGE),
        "list-contradiction": lambda: executions.list(flow="triage", status="failed", limit=PAGE),
        "list-waiting": lambda: executions.list(flow="triage", status="waiting", limit=PAGE),
        "list-nobody": lambda: executions.list(where={"customer_tier": "nobody"}, limit=PAGE),
    }


def main() -> None:
    """`python -m benchmarks.contenders.client_reads STORE EXEC_ID NAME`: serve rounds of `count` reads."""
    store, exec_id, name = sys.argv[1:4]
    read = reads(KitaruClient(store=store), exec_id)[name]

    def run(count: int) -> Answer:
        for _ in range(count):
            read()
        return None

    serve(run, warm_up=5)


if __name__ == "__main__":
    main()
