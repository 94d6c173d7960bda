"""The linearizability check against histories whose verdict is known, and against brute force."""

from __future__ import annotations

import itertools
import random

import pytest

from tests.sim.history import NEVER, Operation, is_linearizable


def w(value: str, begin: float, end: float = NEVER, *, failed: bool = False) -> Operation:
    return Operation("x", True, value, begin, end, failed)


def r(value: str, begin: float, end: float) -> Operation:
    return Operation("x", False, value, begin, end)


@pytest.mark.parametrize(
    ("operations", "verdict"),
    [
        ([], True),
        ([w("a", 0, 1), r("a", 2, 3)], True),
        ([w("a", 0, 1), r("", 2, 3)], False),
        ([w("a", 0, 3), r("", 1, 2)], True),
        ([w("a", 0, 3), r("a", 1, 2), r("", 2.5, 4)], False),
        ([w("a", 0, 1), w("b", 2), r("b", 3, 4), r("a", 5, 6)], False),
        ([w("a", 0, 1), w("b", 2), r("a", 3, 4), r("b", 5, 6)], True),
        ([w("a", 0, 1), w("b", 2, failed=True), r("b", 3, 4)], False),
        ([w("a", 0, 5), w("b", 0, 5), r("a", 6, 7), r("b", 8, 9)], False),
        ([r("c", 0, 1)], False),
    ],
)
def test_known_histories(operations: list[Operation], verdict: bool) -> None:
    """Stale reads, reads that go back, and effects of failed writes are found; real overlap is allowed."""
    assert is_linearizable(operations) is verdict


def brute(operations: list[Operation]) -> bool:
    optional = [op for op in operations if op.end == NEVER]
    certain = [op for op in operations if op.end < NEVER]
    for count in range(len(optional) + 1):
        for extra in itertools.combinations(optional, count):
            if any(_fits(order) for order in itertools.permutations([*certain, *extra])):
                return True
    return False


def _fits(order: tuple[Operation, ...]) -> bool:
    value = ""
    for at, op in enumerate(order):
        if any(later.end < op.begin for later in order[at + 1 :]):
            return False
        if op.write:
            value = op.value
        elif op.value != value:
            return False
    return True


def test_random_histories_agree_with_brute_force() -> None:
    """On small random histories the verdict is that of trying every order."""
    dice = random.Random(7)
    verdicts = set()
    for _ in range(400):
        operations = []
        for value in "abcdef"[: dice.randrange(1, 7)]:
            begin = dice.random()
            end = begin + dice.random() if dice.random() < 0.8 else NEVER
            if dice.random() < 0.5:
                operations.append(w(value, begin, end))
            elif end < NEVER:
                operations.append(r(dice.choice(["", "a", "b", "c"]), begin, end))
        verdict = brute(operations)
        verdicts.add(verdict)
        assert is_linearizable(operations) is verdict, operations
    assert verdicts == {True, False}
