"""What runs here."""

from __future__ import annotations

import importlib.metadata
import platform


def version() -> str:
    """The version of the installed distribution."""
    return importlib.metadata.version("vecdb")


def versions() -> dict[str, str]:
    """Versions that matter in a bug report, by name. Imports nothing heavy."""
    found = {"vecdb": version(), "python": platform.python_version()}
    for name in ("faiss-cpu", "faiss-gpu-cuvs", "grpcio", "numpy", "protobuf"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
