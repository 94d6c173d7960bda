"""Try to kill every mutant, and print by what each died: `python -m tests.mutants [NAME...]`."""

from __future__ import annotations

import sys

from tests.mutants.changes import MUTANTS
from tests.mutants.run import hunt


def main() -> int:
    """Hunt those whose name contains an argument, or all; 1 where one lives."""
    wanted = sys.argv[1:]
    chosen = [m for m in MUTANTS if not wanted or any(word in m.name for word in wanted)]
    if (alive := hunt(None)).by:
        print(f"without a mutant the tests fail already: {alive.by}")
        return 1
    survivors = 0
    for mutant in chosen:
        death = hunt(mutant)
        survivors += not death.by
        print(f"{'killed ' if death.by else 'LIVES  '} {mutant.name}\n         {death.by}", flush=True)
    print(f"{len(chosen)} mutants, {survivors} live")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
