"""Certificates are made once for all tests: each takes a while."""

from __future__ import annotations

import shutil

import pytest

from tests.support.authority import Authority
from tests.unit.replication.transport.peers import PEERS, Certificates


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    if shutil.which("openssl") is None:
        pytest.skip("the openssl command is not installed")
    folder = tmp_path_factory.mktemp("certificates")
    authority, stranger = Authority(folder / "ours"), Authority(folder / "theirs")
    return Certificates(
        {peer: authority.issue(peer, f"DNS:{name}") for peer, name in PEERS.items()},
        authority.issue("nobody", "DNS:nobody.peers.test", "URI:spiffe://test/n1"),
        stranger.issue("n1", f"DNS:{PEERS['n1']}"),
        authority.issue("lookalike", f"URI:{PEERS['n1']}", f"email:{PEERS['n1']}"),
        authority.issue("mixed", f"DNS:{PEERS['n1']}", f"URI:{PEERS['n3']}"),
    )
