"""LangGraph with SqliteSaver, durability "sync": a node that loops, or five-node chains one after the other."""

from __future__ import annotations

import argparse
import itertools
import sqlite3
from typing import TypedDict

from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph

from benchmarks.turns import Answer, serve


class Counter(TypedDict):
    """The graph's state."""

    done: int
    wanted: int


def step(state: Counter) -> dict[str, int]:
    """Nothing but its record."""
    return {"done": state["done"] + 1}


def main() -> None:
    """Serve rounds of `count` steps, or of `count` runs of five steps (`--five`)."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    parser.add_argument("--five", action="store_true")
    options = parser.parse_args()
    connection = sqlite3.connect(options.file, check_same_thread=False)
    builder = StateGraph(Counter)
    builder.add_node("step", step)
    builder.add_edge(START, "step")
    builder.add_conditional_edges("step", lambda s: "step" if s["done"] < s["wanted"] else END, ["step", END])
    graph = builder.compile(checkpointer=SqliteSaver(connection))
    threads = itertools.count()

    def go(count: int) -> None:
        config = {"configurable": {"thread_id": str(next(threads))}, "recursion_limit": count + 10}
        graph.invoke({"done": 0, "wanted": count}, config, durability="sync")

    def run(count: int) -> Answer:
        if options.five:
            for _ in range(count):
                go(5)
        else:
            go(count)
        return None

    serve(run)


if __name__ == "__main__":
    main()
