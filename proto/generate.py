"""Generates proto/vecdb_proto from proto/vecdb/v1 (run by `make proto`).

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
IMPORT = re.compile(r"^(from|import) vecdb\.v1\b", re.MULTILINE)


def googleapis() -> Path:
    """The folder that holds google/rpc/status.proto, from googleapis-common-protos."""
    from google.rpc import status_pb2

    return Path(status_pb2.__file__).parents[2]


def main() -> int:
    """Regenerates every module; returns protoc's exit code."""
    sources = sorted((HERE / "vecdb" / "v1").glob("*.proto"))
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
        for stale in OUT.glob("v1/*_pb2*.py*"):
            stale.unlink()
        (OUT / "v1").mkdir(parents=True, exist_ok=True)
        for made in sorted(Path(folder, "vecdb", "v1").iterdir()):
            text = IMPORT.sub(r"\1 vecdb_proto.v1", made.read_text(encoding="utf-8"))
            (OUT / "v1" / made.name).write_text(text, encoding="utf-8")
    init = '"""Generated from proto/vecdb/v1 by `make proto`; never edited."""\n'
    (OUT / "__init__.py").write_text(init, encoding="utf-8")
    (OUT / "v1" / "__init__.py").write_text(init, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
