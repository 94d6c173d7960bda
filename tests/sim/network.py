"""The simulated network: it drops, repeats, delays, reorders, and is cut one way or both."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from vecdb_replication import raft
from vecdb_replication.host import Envelope


@dataclass(slots=True)
class Weather:
    """How bad it is: shares of envelopes, and seconds."""

    drop: float = 0.0
    repeat: float = 0.0
    delay: float = 0.002
    slow: float = 0.0
    """The share of envelopes that take up to two seconds, and so overtake each other."""


class Network:
    """Carries envelopes between nodes. `later(seconds, act, *args)` is the simulator's clock."""

    def __init__(
        self,
        dice: random.Random,
        later: Callable[..., None],
        deliver: Callable[[int, int, Envelope], bool],
        report: Callable[[int, int, int, bool], None],
    ) -> None:
        self._dice = dice
        self._later = later
        self._deliver = deliver
        self._report = report
        self.weather = Weather()
        self.cut: set[tuple[int, int]] = set()
        self.messages = 0
        self.lost = 0
        self._silenced: dict[int, int] = {}

    def silence(self, node: int) -> None:
        """Lose all that is on its way from a node."""
        self._silenced[node] = self._silenced.get(node, 0) + 1

    def send(self, source: int, target: int, envelope: Envelope) -> None:
        weather, dice = self.weather, self._dice
        self.messages += len(envelope.messages)
        if (source, target) in self.cut or dice.random() < weather.drop:
            self._lose(source, envelope)
            return
        for _ in range(2 if dice.random() < weather.repeat else 1):
            delay = weather.delay * (0.5 + dice.random())
            if dice.random() < weather.slow:
                delay += dice.random() * 2
            self._later(delay, self._arrive, source, target, envelope, self._silenced.get(source, 0))

    def _arrive(self, source: int, target: int, envelope: Envelope, silenced: int) -> None:
        if self._silenced.get(source, 0) != silenced or not self._deliver(source, target, envelope):
            self._lose(source, envelope)
            return
        for group, message in envelope.messages:
            # To say so is too early, as the files still have to come, but must do no harm.
            if message.type is raft.MessageType.SNAP and self._dice.random() < 0.3:
                self._later(0.01, self._report, source, group, message.to, False)

    def _lose(self, source: int, envelope: Envelope) -> None:
        self.lost += len(envelope.messages)
        for group, message in envelope.messages:
            # Half of the time nobody hears of it either.
            if message.type is raft.MessageType.SNAP and self._dice.random() < 0.5:
                self._later(0.01, self._report, source, group, message.to, True)
