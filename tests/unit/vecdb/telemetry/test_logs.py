"""Log lines: their form, their levels, and that no secret is in them."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from vecdb.telemetry import audit_logger, configure


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Logging is the process's: other tests get theirs back."""
    root, own = logging.getLogger(), logging.getLogger("vecdb")
    before = root.handlers[:], root.level, own.level
    yield
    root.handlers[:], root.level = before[0], before[1]
    own.setLevel(before[2])
    structlog.reset_defaults()


def _lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_lines() -> None:
    """One object a line, with message, level, logger, time and facts."""
    stream = io.StringIO()
    configure("json", "info", stream)
    structlog.get_logger("vecdb.node").info("started\nnow", port=7700, name="grüße")
    (line,) = _lines(stream)
    assert line["message"] == "started\nnow"
    assert (line["level"], line["logger"], line["port"], line["name"]) == (
        "info",
        "vecdb.node",
        7700,
        "grüße",
    )
    assert line["timestamp"].endswith("Z")


def test_tracebacks_stay_in_one_line() -> None:
    """An exception is a fact of its event."""
    stream = io.StringIO()
    configure("json", "info", stream)
    try:
        raise ValueError("boom")
    except ValueError:
        structlog.get_logger("vecdb.x").exception("failed")
    (line,) = _lines(stream)
    assert "ValueError: boom" in line["exception"]


def test_console_lines() -> None:
    """For people: the event and its facts in one readable line, without colours into a file."""
    stream = io.StringIO()
    configure("console", "info", stream)
    structlog.get_logger("vecdb.node").warning("disk is filling", free=12)
    assert "disk is filling" in stream.getvalue()
    assert "free=12" in stream.getvalue()
    assert "\x1b[" not in stream.getvalue()


def test_levels() -> None:
    """Our own lines go by the level; libraries are heard from warnings on."""
    stream = io.StringIO()
    configure("json", "info", stream)
    structlog.get_logger("vecdb.x").debug("no")
    structlog.get_logger("vecdb.x").info("yes")
    logging.getLogger("grpc").info("no")
    logging.getLogger("grpc").warning("from %s", "grpc")
    assert [line["message"] for line in _lines(stream)] == ["yes", "from grpc"]
    stream.seek(0)
    stream.truncate()
    configure("json", "debug", stream)
    structlog.get_logger("vecdb.x").debug("yes")
    assert [line["message"] for line in _lines(stream)] == ["yes"]


@pytest.mark.parametrize(
    "key",
    ["token", "root_token", "api_key", "apikey", "Authorization", "password", "client_secret", "invitation"],
)
def test_secrets_are_redacted(key: str) -> None:
    """A value under the name of a secret does not appear, however deep it lies."""
    stream = io.StringIO()
    configure("json", "info", stream)
    structlog.get_logger("vecdb.x").info("e", **{key: "hunter2"}, nested={"list": [{key: "hunter2"}]})
    assert "hunter2" not in stream.getvalue()
    assert _lines(stream)[0][key] == "[redacted]"


def test_bearer_tokens_in_text_are_redacted() -> None:
    """A header that got into a message, ours or a library's, loses its token."""
    stream = io.StringIO()
    configure("json", "info", stream)
    structlog.get_logger("vecdb.x").info("got authorization: bearer abc.def", headers=("Bearer xyz",))
    logging.getLogger("httpx").error("header %s", "Bearer abc.def")
    assert "abc" not in stream.getvalue()
    assert "xyz" not in stream.getvalue()
    assert [line["message"] for line in _lines(stream)] == [
        "got authorization: bearer [redacted]",
        "header Bearer [redacted]",
    ]


def test_what_only_speaks_of_secrets_stays() -> None:
    """Where a token lies, its id, or how many tokens a text has, is no secret."""
    stream = io.StringIO()
    configure("json", "info", stream)
    facts = {"token_file": "/etc/t", "token_id": "7", "tokens": 1500, "token_budget": 9}
    structlog.get_logger("vecdb.x").info("e", **facts)
    line = _lines(stream)[0]
    assert {key: line[key] for key in facts} == facts


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_the_audit_log_leaves_whatever_the_level(level: str) -> None:
    """An operator who wants to hear of errors alone still has who did what. A logger from before the
    configuration goes by it all the same."""
    logger = audit_logger()
    stream = io.StringIO()
    configure("json", level, stream)  # type: ignore[arg-type]
    logger.info("audit", act="Collections.Drop", token_id="t", request='{"token": {"principal": "ann"}}')
    structlog.get_logger("vecdb.node").debug("not this")
    (line, *_) = _lines(stream)
    assert (line["message"], line["logger"], line["act"]) == ("audit", "vecdb.audit", "Collections.Drop")
    assert (line["token_id"], json.loads(line["request"])["token"]["principal"]) == ("t", "ann")
