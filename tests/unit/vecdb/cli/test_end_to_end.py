"""The command line against a real node, with TLS and a token, as processes."""

import json
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from tests.support.certificates import make_certificate
from tests.support.node import Node, free_port
from tests.unit.vecdb.cli.conftest import Cli

TOKEN = "0123456789abcdef0123456789abcdef"
Vecdb = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificate, token, and documents to ingest."""
    folder = tmp_path_factory.mktemp("end-to-end")
    make_certificate(folder)
    (folder / "token").write_text(TOKEN + "\n")
    (folder / "token").chmod(0o600)
    docs = folder / "docs"
    docs.mkdir()
    (docs / "rain.md").write_text(
        "# Bergen\n\nIn Bergen it rains on most days of the year. Umbrellas sell well.\n"
    )
    (docs / "sun.md").write_text("# Sahara\n\nThe desert is dry and very hot. Sand covers most of it.\n")
    (docs / "page.html").write_text("<title>Sea</title><p>The sea is salty and deep. Ships cross it.</p>")
    return folder


@pytest.fixture(scope="module")
def node(folder: Path) -> Iterator[Node]:
    """A node with TLS and a token, whose HTTP is reachable from other machines."""
    secured = [
        "--tls-cert",
        folder / "node.pem",
        "--tls-key",
        folder / "node.key",
        "--token-file",
        folder / "token",
    ]
    credentials = grpc.ssl_channel_credentials((folder / "node.pem").read_bytes())
    with Node(folder / "node", [str(part) for part in secured], credentials=credentials) as node:
        yield node


@pytest.fixture
def vecdb(node: Node, folder: Path) -> Vecdb:
    """Runs a command against the node, in the folder of the documents."""

    def run(*arguments: Any, token: str = "token") -> subprocess.CompletedProcess[str]:
        reach = ["--addr", node.address, "--tls-ca", "node.pem", "--token-file", token]
        command = [sys.executable, "-m", "vecdb", *map(str, arguments), *reach]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)

    return run


def _ok(done: subprocess.CompletedProcess[str]) -> str:
    assert (done.stderr, done.returncode) == ("", 0)
    return done.stdout


def test_documents_in_passages_out(vecdb: Vecdb, folder: Path) -> None:
    """Ingest, ask, retrieve, change, prune: what is found is what is in the folder."""
    ingest = ("ingest", "docs", "-c", "docs", "--model", "wordllama-256")
    assert _ok(vecdb(*ingest)).startswith("3 added; ")
    assert _ok(vecdb(*ingest)) == "3 unchanged; 0 passages written\n"

    hits = json.loads(_ok(vecdb("query", "docs", "umbrellas for the rain in Bergen", "-k", 1, "--json")))[
        "hits"
    ]
    assert hits[0]["source"]["uri"] == "docs/rain.md"
    assert hits[0]["author"] == "root"
    others = json.loads(_ok(vecdb("query", "docs", "rain", "-f", "@author!=root", "--json")))
    assert others["hits"] == []
    context = json.loads(_ok(vecdb("query", "docs", "is the desert hot", "--retrieve", "--json")))
    assert "[1]" in context["text"]
    assert "desert" in context["text"]
    worded = json.loads(_ok(vecdb("query", "docs", "umbrella AND rained", "-m", "bm25", "--json")))["hits"]
    assert [hit["source"]["uri"] for hit in worded] == ["docs/rain.md"]
    fused = json.loads(_ok(vecdb("query", "docs", "umbrella", "-m", "hybrid", "--json")))["hits"]
    assert fused[0]["source"]["uri"] == "docs/rain.md"

    (folder / "docs" / "sun.md").unlink()
    (folder / "docs" / "rain.md").write_text("# Oslo\n\nIn Oslo it snows in winter.\n")
    outcome = json.loads(_ok(vecdb(*ingest, "--prune", "--json")))
    assert (outcome["updated"], outcome["unchanged"], outcome["pruned"]) == (1, 1, 1)
    described = json.loads(_ok(vecdb("collections", "describe", "docs", "--json")))
    found = json.loads(_ok(vecdb("query", "docs", "weather", "-k", 50, "--json")))["hits"]
    assert {hit["source"]["uri"] for hit in found} == {"docs/rain.md", "docs/page.html"}
    assert described["documents"] == len(found)


def test_vectors(vecdb: Vecdb, folder: Path) -> None:
    """A collection of vectors is made, filled, described and dropped."""
    np.save(folder / "v.npy", np.random.default_rng(1).normal(size=(500, 8)).astype(np.float32))
    _ok(vecdb("collections", "create", "vecs", "--dim", 8, "--metric", "l2", "--field", "year:int"))
    assert _ok(vecdb("ingest", "v.npy", "-c", "vecs")) == "1 added; 500 vectors written\n"
    described = json.loads(_ok(vecdb("collections", "describe", "vecs", "--json")))
    assert (described["documents"], described["config"]["metric"]) == (500, "l2")
    again = vecdb("collections", "create", "vecs", "--dim", 8)
    assert again.returncode == 2
    assert "ALREADY_EXISTS" in again.stderr
    assert _ok(vecdb("collections", "drop", "vecs", "--yes")) == "dropped vecs\n"
    listed = json.loads(_ok(vecdb("collections", "list", "--json")))
    assert "vecs" not in {info["config"]["name"] for info in listed}


def test_strangers_are_kept_out(vecdb: Vecdb, folder: Path) -> None:
    """A wrong token is exit code 77; so is none."""
    wrong = folder / "wrong"
    wrong.write_text("fedcba9876543210")
    wrong.chmod(0o600)
    done = vecdb("collections", "list", token="wrong")
    assert (done.returncode, done.stdout) == (77, "")
    assert done.stderr.startswith("vecdb: error: the token is not valid")
    assert "fedcba" not in done.stderr


def test_a_token_made_here_is_good_until_it_is_revoked(node: Node, folder: Path, cli: Cli) -> None:
    """What `tokens create` writes is a --token-file; it opens what it was granted and nothing once it is
    revoked. Tokens and quarantined authors survive kill -9."""
    reach = ("--addr", node.address, "--tls-ca", folder / "node.pem", "--token-file")
    as_root, as_ann = (*reach, folder / "token"), (*reach, folder / "ann.token")
    for name in ("open", "shut"):
        assert cli("collections", "create", name, "--dim", "2", *as_root).code == 0
    made = cli(
        "tokens", "create", "ann", "--grant", "open:read", "--out", folder / "ann.token", "--json", *as_root
    )
    token_id = json.loads(made.out)["token"]["token_id"]
    assert [token["token_id"] for token in json.loads(cli("tokens", "list", "--json", *as_root).out)] == [
        token_id
    ]
    listed = json.loads(cli("collections", "list", "--json", *as_ann).out)
    assert [info["config"]["name"] for info in listed] == ["open"]
    denied = cli("collections", "describe", "shut", *as_ann)
    assert denied.code == 77
    assert "ann needs the role read on collection 'shut'" in denied.error
    with node.client(tls=folder / "node.pem", token=TOKEN) as root:
        root.upsert("open", ids=["a"], vectors=[[1, 0]])
        assert cli("authors", "quarantine", "root", "--reason", "a drill", *as_root).code == 0
        assert root.count("open") == 0
        node.kill()
        node.start()
        assert (root.count("open"), root.get("open", ["a"])) == (0, [])
        (told,) = json.loads(cli("authors", "list", "--json", *as_root).out)
        assert (told["author"], told["reason"]) == ("root", "a drill")
        assert cli("authors", "release", "root", *as_root).code == 0
        assert root.count("open") == 1
    assert cli("tokens", "revoke", token_id, *as_root).code == 0
    assert cli("collections", "list", *as_ann).code == 77
    for name in ("open", "shut"):
        assert cli("collections", "drop", name, "--yes", *as_root).code == 0


def test_the_cluster_of_one(vecdb: Vecdb) -> None:
    """The status is there; what needs a cluster is refused with 69, in the node's own words."""
    status = json.loads(_ok(vecdb("cluster", "status", "--json")))
    assert len(status["members"]) == 1
    for command in (("cluster", "invite"), ("cluster", "remove", "x"), ("snapshot", "s")):
        done = vecdb(*command)
        assert done.returncode == 69
        assert "UNIMPLEMENTED" in done.stderr


def test_metrics_of_a_working_node(node: Node, vecdb: Vecdb) -> None:
    """On loopback the metrics are open, and have counted what was asked."""
    _ok(vecdb("collections", "list"))
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
        f"{node.http_url}/metrics"
    ) as reply:
        text = reply.read().decode()
    assert 'vecdb_rpc_requests_total{code="OK",method="List",service="Collections"}' in text
    assert "vecdb_log_sync_seconds_count" in text


def test_http_off_loopback(folder: Path) -> None:
    """Off loopback, metrics want TLS and the token, health does not want the token."""
    port = free_port()
    secured = [
        "--tls-cert", folder / "node.pem", "--tls-key", folder / "node.key", "--token-file", folder / "token",
        "--http-listen", f"0.0.0.0:{port}", "--init",
    ]  # fmt: skip
    credentials = grpc.ssl_channel_credentials((folder / "node.pem").read_bytes())
    with Node(folder / "public", [str(part) for part in secured], credentials=credentials):
        context = ssl.create_default_context(cafile=folder / "node.pem")
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        url = f"https://localhost:{port}"
        with opener.open(f"{url}/healthz", timeout=20) as reply:
            assert reply.status == 200
        with pytest.raises(urllib.error.HTTPError, match="401"):
            opener.open(f"{url}/metrics", timeout=20)
        allowed = urllib.request.Request(f"{url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
        with opener.open(allowed, timeout=20) as reply:
            assert reply.status == 200
