"""Answer requests from stdin on stdout, one a line, until there are no more."""

import sys

from .session import Session


def main() -> None:
    """Run until stdin ends, or nobody reads stdout any more."""
    session = Session()
    for line in sys.stdin.buffer:
        try:
            print(session.answer(line), flush=True)
        except BrokenPipeError:
            # Nobody reads any more; closing stderr keeps the interpreter from complaining about it.
            sys.stderr.close()
            return


if __name__ == "__main__":
    main()
