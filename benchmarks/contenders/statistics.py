"""What the client answers about a population, warm."""

from __future__ import annotations

import json
import sys

from benchmarks.contenders.peak_memory import peak_kib
from benchmarks.contenders.questions import QUESTIONS, Question, Rows, in_order
from benchmarks.turns import Answer, serve
from kitaru import KitaruClient


def ask(client: KitaruClient, question: Question) -> Rows:
    """One answer as rows."""
    answer = client.executions.statistics(group_by=question.group_by, metrics=question.metrics, max_groups=10_000)
    return [(*group.keys.values(), group.execution_count, *group.metrics.values()) for group in answer.groups]


def main() -> None:
    """`python -m benchmarks.contenders.statistics STORE QUESTION`: serve rounds of `count` questions.

    `STORE --answers QUESTION...`: print the answers as JSON. `STORE --peak`: ask all, print the peak in KiB.
    """
    client = KitaruClient(store=sys.argv[1])
    if sys.argv[2] == "--peak":
        for each in QUESTIONS.values():
            ask(client, each)
        print(peak_kib())
        return
    if sys.argv[2] == "--answers":
        print(json.dumps([in_order(ask(client, QUESTIONS[name])) for name in sys.argv[3:]]))
        return
    question = QUESTIONS[sys.argv[2]]

    def run(count: int) -> Answer:
        for _ in range(count):
            ask(client, question)
        return None

    serve(run, warm_up=3)


if __name__ == "__main__":
    main()
