"""Whose tick is due: the groups spread over the turns of a wheel."""

from __future__ import annotations


class Wheel:
    """Gives each group one tick a `period`, a few groups at a time.

    Late turns are left out, not made up for: after a pause, ticks in a burst
    would make every follower believe that its leader had been silent.
    """

    def __init__(self, period: float, slots: int = 4) -> None:
        self._turn = period / slots
        self._slots: list[set[int]] = [set() for _ in range(slots)]
        self._at = 0
        self._next: float | None = None

    def __len__(self) -> int:
        return sum(map(len, self._slots))

    def put(self, group: int) -> None:
        """Give a group ticks from now on."""
        self._slots[group % len(self._slots)].add(group)

    def drop(self, group: int) -> None:
        """Give it no more."""
        self._slots[group % len(self._slots)].discard(group)

    def due(self, now: float) -> list[int]:
        """The groups to tick at `now`, in seconds of a clock that never goes back."""
        if self._next is None:
            self._next = now + self._turn
        if now < self._next:
            return []
        self._next += self._turn
        if self._next <= now:
            self._next = now + self._turn
        self._at = (self._at + 1) % len(self._slots)
        return sorted(self._slots[self._at])

    @property
    def next(self) -> float | None:
        """When to ask again; None before the first time."""
        return self._next
