"""Does the ledger agree with the record? Pure: what was seen goes in, the faults come out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from ledger import Entry


@dataclass(frozen=True)
class Seen:
    """What the record said. Calls go by invocation id, `attempts` counts the tries of each at the end."""

    documents: Sequence[str]
    completed_at_kill: AbstractSet[str]
    running_at_kill: AbstractSet[str]
    completed_at_end: AbstractSet[str]
    attempts: Mapping[str, int]


@dataclass(frozen=True)
class Verdict:
    """`faults` is empty when the promise held. `repeated`: calls in flight at the kill whose body began twice."""

    bodies: int
    repeated: Sequence[str]
    faults: Sequence[str]


def compare(entries: Sequence[Entry], seen: Seen, killed_pid: int) -> Verdict:
    """Hold every ledger line against the record of the call that wrote it."""
    ids = {document: _nth("digest", number) for number, document in enumerate(seen.documents, 1)}
    runs: Counter[str] = Counter()
    keys: defaultdict[str, set[str]] = defaultdict(set)
    faults: list[str] = []
    for entry in entries:
        call = ids.get(entry.about, "?") if entry.checkpoint == "digest" else entry.checkpoint
        runs[call] += 1
        keys[call].add(entry.key)
        if call in seen.completed_at_kill and entry.pid != killed_pid:
            faults.append(f"{call} was recorded as completed, and its body ran again after the recovery")
    for call, count in sorted(runs.items()):
        if count > seen.attempts.get(call, 0):
            faults.append(f"{call} ran {count} times, its record shows {seen.attempts.get(call, 0)} attempts")
        if count > 1 and call not in seen.running_at_kill and call not in seen.completed_at_kill:
            faults.append(f"{call} ran {count} times, and was not in flight at the kill")
        if len(keys[call]) > 1:
            faults.append(f"{call} had {len(keys[call])} idempotency keys; every attempt should have the same")
    owners = Counter(key for call_keys in keys.values() for key in call_keys)
    faults += [f"idempotency key {key} belongs to {count} calls" for key, count in owners.items() if count > 1]
    faults += [f"{call} is recorded as completed, and never ran" for call in sorted(seen.completed_at_end - set(runs))]
    faults += [f"{call} never completed" for call in sorted(runs.keys() - seen.completed_at_end)]
    repeated = sorted(call for call, count in runs.items() if count > 1 and call in seen.running_at_kill)
    return Verdict(len(entries), repeated, faults)


def _nth(name: str, number: int) -> str:
    """The invocation id of the n-th call of a checkpoint, in the order of the calls."""
    return name if number == 1 else f"{name}_{number}"
