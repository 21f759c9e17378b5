"""A research flow over real documents: find them, digest each, rank them against a question, write a report.

Run it by itself (`python examples/research/research.py "How are files locked?"`), or let `make demo` kill and recover
it.
"""

from __future__ import annotations

import sys

import ledger
import reading
from reading import Digest, Finding

import kitaru
from kitaru import checkpoint, flow

QUESTION = "How does a program keep its files whole when it is interrupted or crashes while it writes?"


@checkpoint
def discover(limit: int) -> list[str]:
    """The paths of the documents to read."""
    ledger.note("discover", "", kitaru.idempotency_key())
    return reading.find_documents(limit)


@checkpoint(retries=2, retry_delay=0.1, retry_on=OSError)
def digest(path: str, question: str) -> Digest:
    """What one document says, and what it says to the question."""
    ledger.note("digest", path, kitaru.idempotency_key())
    found = reading.read_document(path, question)
    if found.encoding == "latin-1":
        kitaru.log(encoding="not what the file declares; read as Latin-1")
    return found


@checkpoint
def rank(digests: list[Digest], question: str) -> list[Finding]:
    """The documents, best first."""
    ledger.note("rank", "", kitaru.idempotency_key())
    return reading.rank_digests(digests, question)


@checkpoint
def write_report(findings: list[Finding], question: str) -> str:
    """Save the report as the artifact `report`; the title of the best document is the result."""
    ledger.note("write_report", "", kitaru.idempotency_key())
    kitaru.save("report", reading.report_text(question, findings), type="output")
    return findings[0].digest.title


@flow
def research(question: str = QUESTION, limit: int = 400) -> str:
    """Read up to `limit` documents and report on those that answer the question."""
    paths = discover(limit)
    digests = digest.map(paths, question=question).result()
    findings = rank(digests, question)
    return write_report(findings, question)


if __name__ == "__main__":
    handle = research.run(*sys.argv[1:2])
    print(f"execution {handle.exec_id} started")
    print(f"best document: {handle.wait()}")
