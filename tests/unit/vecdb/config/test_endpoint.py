"""Endpoints: what is read, what is refused, what counts as loopback."""

import pytest

from vecdb.config import Endpoint, parse_endpoint


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:7700", "127.0.0.1", 7700),
        (" 0.0.0.0:0 ", "0.0.0.0", 0),
        ("[::1]:65535", "::1", 65535),
        ("[2001:DB8::0:1]:1", "2001:db8::1", 1),
        ("node-1.example.org:7700", "node-1.example.org", 7700),
        ("localhost:7700", "localhost", 7700),
    ],
)
def test_reads_and_gives_back(text: str, host: str, port: int) -> None:
    """What is read can be written and read again."""
    endpoint = parse_endpoint(text)
    assert endpoint == Endpoint(host, port)
    assert parse_endpoint(str(endpoint)) == endpoint


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("unix:/run/vecdb.sock", "unix"),
        ("/run/vecdb.sock", "unix"),
        ("127.0.0.1", "host:port"),
        ("127.0.0.1:", "host:port"),
        ("127.0.0.1:65536", "65535"),
        ("127.0.0.1:-1", "host:port"),
        ("127.0.0.1:７７", "host:port"),
        (":7700", "names no host"),
        ("::1:7700", "brackets"),
        ("[::1:7700", "brackets"),
        ("[127.0.0.1]:1", "IPv6"),
        ("[]:1", "IPv6"),
        ("256.0.0.1:1", "IPv4"),
        ("1.2.3:1", "IPv4"),
        ("http://a:1", "brackets"),
        ("a b:1", "host name"),
        ("-a:1", "host name"),
        ("a..b:1", "host name"),
        ("x" * 64 + ":1", "host name"),
        ("", "host:port"),
    ],
)
def test_refuses(text: str, word: str) -> None:
    """A malformed endpoint is refused in words that name the trouble."""
    with pytest.raises(ValueError, match=word):
        parse_endpoint(text)


@pytest.mark.parametrize(
    ("text", "loopback"),
    [
        ("127.0.0.1:1", True),
        ("127.8.9.1:1", True),
        ("[::1]:1", True),
        ("[::ffff:127.0.0.1]:1", True),
        ("LocalHost:1", True),
        ("localhost.:1", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("[::ffff:10.0.0.1]:1", False),
        ("192.168.0.1:1", False),
        ("localhost.example.org:1", False),
        ("loopback:1", False),
    ],
)
def test_loopback(text: str, loopback: bool) -> None:
    """Only what no other machine can reach is loopback, and of names localhost alone."""
    assert parse_endpoint(text).is_loopback is loopback
