from __future__ import annotations

import subprocess
import sys
import textwrap

_BLOCKED = """
import importlib.metadata, sys

allowed = {"vecdb_client", "vecdb_proto", "grpc", "grpc_status", "google", "numpy", "msgpack"}
# What these bring themselves (their own requirements), by its distribution.
brought = {"typing_extensions"}

class Blocker:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names or top in allowed | brought or top.startswith("_"):
            return None
        raise ImportError(f"the client must not need {name}")

sys.meta_path.insert(0, Blocker())
import vecdb_client, vecdb_client.aio
client = vecdb_client.Client("127.0.0.1:1", timeout=0.01)
try:
    client.count("c")
except vecdb_client.VecdbError:
    pass
print("alone")
"""


def test_the_client_needs_only_what_it_declares() -> None:
    """It imports and calls with nothing installed but grpcio, protobuf, numpy, msgpack and their own."""
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_BLOCKED)], capture_output=True, text=True, timeout=60
    )
    assert run.stdout.strip() == "alone", run.stderr
