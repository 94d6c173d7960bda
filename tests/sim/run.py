"""Running seeds: one, or as many as there is time for."""

from __future__ import annotations

import gc
import itertools
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import get_context

from tests.sim.chaos import Chaos
from tests.sim.facts import Violation
from tests.sim.world import World


def simulate(seed: int, seconds: float, *, trace: bool = False) -> World:
    """Run one seed. Raises Violation."""
    # Nothing here is garbage before the end: looking for some is a fifth of the time.
    gc.disable()
    world = World(seed, trace=print if trace else None)
    try:
        Chaos(world).run(seconds)
    except Violation as violation:
        if "replay:" in str(violation):
            raise
        raise world.violation(str(violation)) from violation
    finally:
        gc.enable()
    world.counts["messages"] = world.network.messages
    world.counts["messages lost"] = world.network.lost
    world.counts["operations"] = sum(client.done for client in world.clients)
    world.counts["simulated seconds"] = round(world.now)
    return world


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a seed; `violation` is empty where all held."""

    seed: int
    counts: Counter[str]
    violation: str = ""


def attempt(seed: int, seconds: float) -> Verdict:
    """Run one seed, and take a violation for an answer."""
    began = time.process_time()
    try:
        counts = simulate(seed, seconds).counts
        counts["processor ms"] = round(1000 * (time.process_time() - began))
        return Verdict(seed, counts)
    except Violation as violation:
        return Verdict(seed, Counter(), str(violation))


def campaign(first: int, seeds: int, seconds: float, minutes: float, processes: int) -> Iterator[Verdict]:
    """Run `seeds` seeds from `first` on, or with `minutes` as many as there is time for, as they end."""
    deadline = time.monotonic() + minutes * 60
    ahead = itertools.count(first) if minutes else iter(range(first, first + seeds))
    ahead = itertools.takewhile(lambda _: not minutes or time.monotonic() < deadline, ahead)
    if processes == 1:
        yield from (attempt(seed, seconds) for seed in ahead)
        return
    # Started, not forked: nothing of this process is to be in a simulation.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        running = {pool.submit(attempt, seed, seconds) for seed in itertools.islice(ahead, processes)}
        while running:
            ended, running = wait(running, return_when=FIRST_COMPLETED)
            running |= {pool.submit(attempt, seed, seconds) for seed in itertools.islice(ahead, len(ended))}
            yield from (future.result() for future in ended)
