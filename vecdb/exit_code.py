"""What the process ends with."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every command, `serve` among them; 69 to 77 are those of sysexits.h."""

    OK = 0
    PARTIAL = 1
    USAGE = 2
    UNAVAILABLE = 69
    INTERNAL = 70
    PERMISSION = 77
    INTERRUPTED = 130
