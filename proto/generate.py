"""Generates proto/vecdb_proto from the packages under proto/vecdb (run by `make proto`).

protoc derives Python module paths from the .proto paths, so that
`vecdb/v1/search.proto` would become `vecdb.v1.search_pb2`, a module in the
node's own package, which clients do not have. The generated code goes to the
package `vecdb_proto` instead, and its imports are rewritten to match. The
.proto paths (and with them the wire names) stay as they are.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

HERE = Path(__file__).resolve().parent
OUT = HERE / "vecdb_proto"
WELL_KNOWN = Path(grpc_tools.__file__).parent / "_proto"
# What clients say to nodes, and what nodes say to each other.
PACKAGES = ("v1", "peer/v1")
IMPORT = re.compile(r"^(from|import) vecdb\.((?:peer\.)?v1)\b", re.MULTILINE)
INIT = '"""Generated from the packages under proto/vecdb by `make proto`; never edited."""\n'


def googleapis() -> Path:
    """The folder that holds google/rpc/status.proto, from googleapis-common-protos."""
    from google.rpc import status_pb2

    return Path(status_pb2.__file__).parents[2]


def _adopt(made: Path, out: Path) -> None:
    """Puts freshly made modules in the place of the old ones, with their imports rewritten."""
    out.mkdir(parents=True, exist_ok=True)
    for stale in out.glob("*_pb2*.py*"):
        stale.unlink()
    for module in sorted(made.iterdir()):
        text = IMPORT.sub(r"\1 vecdb_proto.\2", module.read_text(encoding="utf-8"))
        (out / module.name).write_text(text, encoding="utf-8")


def main() -> int:
    """Regenerates every module; returns protoc's exit code."""
    sources = [path for package in PACKAGES for path in sorted((HERE / "vecdb" / package).glob("*.proto"))]
    with tempfile.TemporaryDirectory() as folder:
        code = protoc.main(
            [
                "protoc",
                f"-I{HERE}",
                f"-I{WELL_KNOWN}",
                f"-I{googleapis()}",
                f"--python_out={folder}",
                f"--pyi_out={folder}",
                f"--grpc_python_out={folder}",
                *map(str, sources),
            ]
        )
        if code != 0:
            return int(code)
        for package in PACKAGES:
            _adopt(Path(folder, "vecdb", package), OUT / package)
    for package in (".", "v1", "peer", "peer/v1"):
        (OUT / package / "__init__.py").write_text(INIT, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
