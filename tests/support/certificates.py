"""Self-signed certificates for tests, made with the openssl command."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

# `openssl ca` alone lets both ends of the validity be chosen (before 3.4).
_CONFIG = """
[ca]
default_ca = this
[this]
database = {folder}/{name}.index
new_certs_dir = {folder}
rand_serial = yes
default_md = sha256
policy = any
x509_extensions = names
[any]
commonName = supplied
[names]
subjectAltName = DNS:localhost, IP:127.0.0.1
{extension}
"""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate for localhost and 127.0.0.1 and its key, as PEM files."""

    cert: Path
    key: Path


def make_certificate(
    folder: Path,
    name: str = "node",
    *,
    begins: timedelta = timedelta(days=-1),
    ends: timedelta = timedelta(days=30),
    passphrase: str | None = None,
    extension: str = "",
) -> KeyPair:
    """Makes one that is good from `begins` to `ends`, told from now.

    `extension` is a line of openssl's configuration. Skips the test without openssl.
    """
    pair = KeyPair(folder / f"{name}.pem", folder / f"{name}.key")
    config, request = folder / f"{name}.cnf", folder / f"{name}.csr"
    config.write_text(_CONFIG.format(folder=folder, name=name, extension=extension))
    (folder / f"{name}.index").touch()
    protect = ["-nodes"] if passphrase is None else ["-passout", f"pass:{passphrase}"]
    unlock = [] if passphrase is None else ["-passin", f"pass:{passphrase}"]
    _openssl(
        "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", *protect,
        "-keyout", pair.key, "-out", request, "-subj", "/CN=localhost",
    )  # fmt: skip
    now = datetime.now(UTC)
    _openssl(
        "ca", "-batch", "-selfsign", "-notext", "-config", config, "-keyfile", pair.key, *unlock,
        "-in", request, "-out", pair.cert,
        "-startdate", f"{now + begins:%Y%m%d%H%M%SZ}", "-enddate", f"{now + ends:%Y%m%d%H%M%SZ}",
    )  # fmt: skip
    return pair


def _openssl(*arguments: str | Path) -> None:
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("the openssl command is not installed")
    subprocess.run([program, *arguments], check=True, capture_output=True)
