"""Simulate clusters: `python -m tests.sim --seed 7 --seconds 120`, or `--minutes 30 --processes 2`.

One seed gives one history, to the byte. With `--minutes`, seeds are tried until the time is over.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from tests.sim.run import campaign, simulate


def main() -> int:
    """Run what the command line asks for; 1 where a seed failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first, or only, seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds")
    parser.add_argument("--seconds", type=float, default=120, help="simulated, for each seed")
    parser.add_argument("--minutes", type=float, default=0, help="go on with further seeds for so long")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--stop", action="store_true", help="end at the first seed that fails")
    parser.add_argument("--trace", action="store_true", help="print every event of the one seed")
    options = parser.parse_args()
    if options.trace:
        simulate(options.seed, options.seconds, trace=True)
        return 0
    total: Counter[str] = Counter()
    failed = 0
    began = time.monotonic()
    for verdict in campaign(options.seed, options.seeds, options.seconds, options.minutes, options.processes):
        total += verdict.counts
        total["seeds"] += 1
        if verdict.violation:
            failed += 1
            print(verdict.violation, flush=True)
            if options.stop:
                break
    print(f"{total['seeds']} seeds, {failed} failed, {time.monotonic() - began:.0f} s")
    if hours := total["simulated seconds"] / 3600:
        speed = hours / (total["processor ms"] / 3_600_000)
        rate = total["operations"] / hours
        print(
            f"{hours:.1f} simulated hours, {speed:.0f} in an hour of one core, {rate:,.0f} operations in each"
        )
    for name, count in sorted(total.items()):
        print(f"{name:>20} {count:,}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
