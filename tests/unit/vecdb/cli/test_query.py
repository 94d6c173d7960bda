"""`vecdb query` against a real server with written answers."""

import json
from datetime import UTC, datetime
from typing import Any

import grpc
import msgpack
import pytest
from vecdb_client import Filter as F
from vecdb_proto.v1 import common_pb2, knowledge_pb2, search_pb2

from tests.clients.scripted import Fail, ScriptedServer

SOURCE = common_pb2.Source(uri="notes/a.md", start=10, end=50, page=3)
HITS = search_pb2.SearchResponse(
    hits=[
        search_pb2.Hit(
            score=0.75,
            document=common_pb2.Document(
                id="a",
                text="Rain\nin   Bergen " + "x" * 500,
                payload=msgpack.packb({"year": 2024}),
                version=7,
                author="root",
                source=SOURCE,
            ),
        ),
        search_pb2.Hit(score=0.5, document=common_pb2.Document(id="b", version=8, author="root")),
    ]
)
CONTEXT = knowledge_pb2.RetrieveResponse(
    text="[1] Rain in Bergen",
    citations=[knowledge_pb2.Citation(number=1, ids=["a"], source=SOURCE, score=0.75, text="Rain in Bergen")],
    tokens=9,
)


def test_hits_for_people(cli: Any, server: ScriptedServer) -> None:
    """Rank, score, id, place, a snippet of one line, the payload."""
    server.script("Search/Search", HITS)
    outcome = cli("query", "docs", "weather")
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    assert lines[0] == "  1  0.7500  a  notes/a.md:10-50 (p. 3)"
    assert lines[1].startswith("     Rain in Bergen xxx")
    assert lines[1].endswith("...")
    assert lines[2:] == ["     {'year': 2024}", "  2  0.5000  b"]
    (request,) = server.requests["Search/Search"]
    assert (request.collection, request.query.text, request.options.k) == ("docs", "weather", 10)
    assert request.options.mode == search_pb2.SEARCH_MODE_VECTOR


def test_hits_for_machines(cli: Any, server: ScriptedServer) -> None:
    """--json gives everything that a hit has, and what is missing."""
    partial = search_pb2.SearchResponse(hits=HITS.hits, partial=True, missing_shards=[4])
    server.script("Search/Search", partial)
    answer = json.loads(cli("query", "docs", "weather", "--json").out)
    assert (answer["partial"], answer["missing_shards"]) == (True, [4])
    first = answer["hits"][0]
    assert (first["id"], first["score"], first["payload"], first["version"]) == ("a", 0.75, {"year": 2024}, 7)
    assert first["source"]["uri"] == "notes/a.md"
    assert answer["hits"][1]["source"] is None


def test_options_arrive(cli: Any, server: ScriptedServer) -> None:
    """k, mode, filters and exact are what the server is asked for."""
    server.script("Search/Search", search_pb2.SearchResponse())
    arguments = ("-k", 3, "-m", "hybrid", "-f", "year>=2020", "--filter", "lang=en", "--exact")
    outcome = cli("query", "docs", "-", *arguments, stdin=b"from stdin\n")
    assert (outcome.code, outcome.out) == (0, "no hits\n")
    (request,) = server.requests["Search/Search"]
    options = request.options
    assert (request.query.text, options.k, options.exact) == ("from stdin", 3, True)
    assert options.mode == search_pb2.SEARCH_MODE_HYBRID
    assert options.filter == ((F("year") >= 2020) & (F("lang") == "en")).message()


def test_groups(cli: Any, server: ScriptedServer) -> None:
    """--group-by and --group-size arrive, and the hits of each group stand under its name."""
    named = [
        search_pb2.Hit(score=score, document=common_pb2.Document(id=id_), group=group)
        for id_, score, group in (("a", 0.9, "en"), ("b", 0.4, "en"), ("c", 0.8, "de"))
    ]
    server.script("Search/Search", search_pb2.SearchResponse(hits=named))
    arguments = ("query", "docs", "weather", "--group-by", "lang", "--group-size", 2)
    assert cli(*arguments).out.splitlines() == [
        "en:",
        "  1  0.9000  a",
        "  2  0.4000  b",
        "de:",
        "  3  0.8000  c",
    ]
    answer = json.loads(cli(*arguments, "--json").out)
    assert [hit["group"] for hit in answer["hits"]] == ["en", "en", "de"]
    options = server.requests["Search/Search"][0].options
    assert (options.group_by.field, options.group_by.size) == ("lang", 2)
    assert not options.HasField("diversity")


def test_diversity(cli: Any, server: ScriptedServer) -> None:
    """--diversity is the other side of lambda; 0, which is the default, asks for none."""
    server.script("Search/Search", HITS)
    for given, expected in (((), None), (("--diversity", 0), None), (("--diversity", 0.75), 0.25)):
        assert cli("query", "docs", "weather", *given).code == 0
        options = server.requests["Search/Search"][-1].options
        assert options.HasField("diversity") is (expected is not None)
        assert getattr(options.diversity, "lambda") == (expected or 0)
        assert not options.HasField("group_by")


def test_a_partial_answer_is_told(cli: Any, server: ScriptedServer) -> None:
    """Missing shards are a warning on stderr, so that stdout stays the answer."""
    server.script("Search/Search", search_pb2.SearchResponse(partial=True, missing_shards=[4, 9]))
    outcome = cli("query", "docs", "weather")
    assert outcome.code == 0
    assert outcome.err == "vecdb: warning: partial: shards 4, 9 did not answer\n"


def test_retrieve(cli: Any, server: ScriptedServer) -> None:
    """--retrieve prints the context and what its numbers stand for; --json all of it."""
    server.script("Knowledge/Retrieve", CONTEXT)
    outcome = cli("query", "docs", "weather?", "--retrieve", "--token-budget", 100)
    assert outcome.out.splitlines() == [
        "[1] Rain in Bergen",
        "",
        "[1] 0.7500  notes/a.md:10-50 (p. 3)",
        "9 tokens",
    ]
    (request,) = server.requests["Knowledge/Retrieve"]
    assert (request.question, request.token_budget) == ("weather?", 100)
    answer = json.loads(cli("query", "docs", "weather?", "--retrieve", "--json").out)
    assert answer["sources"][0]["source"]["uri"] == "notes/a.md"
    server.script("Knowledge/Retrieve", knowledge_pb2.RetrieveResponse())
    assert cli("query", "docs", "weather?", "-r").out == "no passages\n0 tokens\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("docs", ""), "question is empty"),
        (("docs", "-"), "question is empty"),
        (("docs", "x", "-k", "0"), "'-k'"),
        (("docs", "x", "--mode", "magic"), "'--mode'"),
        (("docs", "x", "--filter", "nope"), "--filter 'nope'"),
        (("docs", "x", "--retrieve", "--exact"), "--exact does not go with --retrieve"),
        (("docs", "x", "--retrieve", "--group-by", "a"), "--group-by does not go with --retrieve"),
        (("docs", "x", "--retrieve", "--diversity", "1"), "--diversity does not go with --retrieve"),
        (("docs", "x", "--group-by", "a", "--diversity", "1"), "--diversity does not go with --group-by"),
        (("docs", "x", "--group-size", "101"), "'--group-size'"),
        (("docs", "x", "--diversity", "1.5"), "'--diversity'"),
        (("docs",), "'words'"),
        (("docs", "x", "--addr", ","), "--addr"),
        (("docs", "x", "--addr", "http://h:1"), "host:port"),
        (("docs", "x", "--timeout", "0"), "'--timeout'"),
    ],
)
def test_usage_errors(cli: Any, server: ScriptedServer, arguments: tuple[str, ...], words: str) -> None:
    """A wrong command line is one line on stderr and exit code 2; the server is not asked."""
    outcome = cli("query", *arguments)
    assert outcome.code == 2
    assert words in outcome.error
    assert outcome.out == ""
    assert not server.requests


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (grpc.StatusCode.NOT_FOUND, 2),
        (grpc.StatusCode.INVALID_ARGUMENT, 2),
        (grpc.StatusCode.FAILED_PRECONDITION, 2),
        (grpc.StatusCode.UNIMPLEMENTED, 69),
        (grpc.StatusCode.UNAVAILABLE, 69),
        (grpc.StatusCode.DEADLINE_EXCEEDED, 69),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 69),
        (grpc.StatusCode.INTERNAL, 70),
        (grpc.StatusCode.DATA_LOSS, 70),
        (grpc.StatusCode.UNAUTHENTICATED, 77),
        (grpc.StatusCode.PERMISSION_DENIED, 77),
    ],
)
def test_exit_codes(cli: Any, server: ScriptedServer, code: grpc.StatusCode, expected: int) -> None:
    """Each status has its exit code, and its message is the one line."""
    server.script("Search/Search", Fail(code, "because\nof reasons", reason="SOME_REASON"))
    outcome = cli("query", "docs", "x")
    assert outcome.code == expected
    assert outcome.error == f"because of reasons ({code.name}/SOME_REASON)"


def test_payloads_that_json_cannot_hold(cli: Any, server: ScriptedServer) -> None:
    """Bytes, times and numbers that are none come out as JSON can say them, never as an error."""
    payload = {
        "raw": b"\x01\xff",
        "when": datetime(2024, 5, 1, tzinfo=UTC),
        "nan": float("nan"),
        "list": [1.5, None],
    }
    document = common_pb2.Document(id="a", payload=msgpack.packb(payload, datetime=True))
    server.script("Search/Search", search_pb2.SearchResponse(hits=[search_pb2.Hit(document=document)]))
    (hit,) = json.loads(cli("query", "docs", "x", "--json").out)["hits"]
    assert hit["payload"] == {
        "raw": "01ff",
        "when": "2024-05-01T00:00:00+00:00",
        "nan": None,
        "list": [1.5, None],
    }
