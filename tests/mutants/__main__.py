"""Try to kill every mutant, and print by what each died: `python -m tests.mutants [NAME...]`."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed

from tests.mutants.changes import MUTANTS
from tests.mutants.run import Fate, check, hunt


def main() -> int:
    """Hunt those whose name contains an argument, or all; 1 unless every one is killed."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="parts of names; all mutants without any")
    parser.add_argument("--processes", type=int, default=2, help="how many are hunted at once")
    options = parser.parse_args()
    chosen = [m for m in MUTANTS if not options.names or any(word in m.name for word in options.names)]
    if failing := check({mutant.area for mutant in chosen}):
        print(f"without a mutant the tests fail already: {failing}")
        return 1
    fates: Counter[Fate] = Counter()
    with ThreadPoolExecutor(options.processes) as pool:
        hunts = {pool.submit(hunt, mutant): mutant for mutant in chosen}
        for ended in as_completed(hunts):
            verdict = ended.result()
            fates[verdict.fate] += 1
            print(f"{verdict.fate.value:<9} {hunts[ended].name}\n          {verdict.by}", flush=True)
    print(f"{len(chosen)} mutants: " + ", ".join(f"{count} {fate.value}" for fate, count in fates.items()))
    return 0 if fates[Fate.KILLED] == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
