"""The child process in which HTML and PDF are parsed: `python -m vecdb.knowledge.worker`.

It reads frames from standard input and answers on standard output until its input ends. Its limits are set
before any document is read, and a document that makes it misbehave costs this process, not the node.
"""

from __future__ import annotations

import math
import os
import resource
import sys
from typing import Any

from vecdb.knowledge import wire
from vecdb.knowledge.errors import ParseTooLarge, SourceError
from vecdb.knowledge.formats import parse
from vecdb.knowledge.source import Format, Limits

# The parsers open no files; Python opens one at a time to import.
_OPEN_FILES = 32


def confine(memory_bytes: int) -> None:
    """Limit this process: address space, no files written, no core dumps, few files open."""
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, _OPEN_FILES))


def allow_cpu(seconds: float) -> None:
    """Let this process use so much processor time from now on; beyond it the kernel ends it (SIGXCPU).

    The limit counts from the start of the process, which serves many documents: what was used is added.
    """
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = math.ceil(used.ru_utime + used.ru_stime + seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Parse the document of a request."""
    try:
        limits = Limits(*request["limits"])
        texts = parse(request["name"], request["data"], Format(request["format"]), limits)
    except MemoryError:
        return {"error": "memory"}
    except ParseTooLarge as error:
        return {"error": "large", "message": error.message, "where": error.where}
    except SourceError as error:
        return {"error": "source", "message": error.message, "where": error.where}
    except RecursionError:
        return {"error": "source", "message": "nested too deeply", "where": None}
    return {"texts": [wire.describe(text) for text in texts]}


def main() -> None:
    """Serve until standard input ends."""
    memory_bytes, cpu_seconds = int(sys.argv[1]), float(sys.argv[2])
    confine(memory_bytes)
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    # A parser that prints must not speak in our name.
    os.dup2(2, 1)
    while len(header := source.read(wire.HEADER.size)) == wire.HEADER.size:
        allow_cpu(cpu_seconds)
        try:
            request = wire.unpack(source.read(wire.HEADER.unpack(header)[0]))
            reply = wire.pack(answer(request))
        except MemoryError:
            reply = wire.pack({"error": "memory"})
        sink.write(reply)
        sink.flush()


if __name__ == "__main__":
    main()
