"""What clients saw, and whether one register could have behaved like that.

The check is Wing and Gong's (Testing and Verifying Concurrent Objects, 1993) with Lowe's memory of
states that were tried: look for an order of the operations that respects real time, in which every
read returns the last value written. Operations without an answer may have taken effect at any time
after they began, or never.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

NEVER = math.inf


@dataclass(slots=True)
class Operation:
    """A write of `value`, or a read that returned it. `end` stays NEVER where no answer came."""

    name: str
    write: bool
    value: str
    begin: float
    end: float = NEVER
    failed: bool = False
    """It is certain that it had no effect."""


def is_linearizable(operations: list[Operation]) -> bool:
    """Whether the operations on one register, which is empty at first, could have been one after another."""
    read = {op.value for op in operations if not op.write and op.end < NEVER}
    # A write without an answer whose value nobody saw may as well never have happened.
    ops = [op for op in operations if not op.failed and (op.end < NEVER or (op.write and op.value in read))]
    ops.sort(key=lambda op: op.begin)
    required = sum(1 << at for at, op in enumerate(ops) if op.end < NEVER)
    tried: set[tuple[int, str]] = set()
    stack = [(0, "")]
    while stack:
        done, value = stack.pop()
        if done & required == required:
            return True
        if (done, value) in tried:
            continue
        tried.add((done, value))
        stack += _next(ops, done, value)
    return False


def _next(ops: list[Operation], done: int, value: str) -> list[tuple[int, str]]:
    """What may come next: whatever began before all that are left had ended."""
    found = []
    first_end = NEVER
    at = (~done & (done + 1)).bit_length() - 1
    while at < len(ops) and ops[at].begin <= first_end:
        if not done >> at & 1:
            op = ops[at]
            first_end = min(first_end, op.end)
            if op.write or op.value == value:
                found.append((at, op))
        at += 1
    return [(done | 1 << at, op.value if op.write else value) for at, op in found if op.begin <= first_end]
