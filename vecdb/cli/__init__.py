"""The command line, `vecdb`. docs/cli.md documents it.

Modules here import little at the top: `vecdb --help` must come at once, so
grpc, numpy, rich and the node are imported by the commands that use them.
"""

from __future__ import annotations

import sys


def main() -> None:
    """The entry point: runs `sys.argv` and exits."""
    from vecdb.cli.app import run

    sys.exit(run(sys.argv[1:]))
