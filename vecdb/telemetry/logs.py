"""Log lines on stderr: for people, or one JSON object a line.

Modules log through structlog (`structlog.get_logger(__name__)`): an event in
few words, then facts as keywords. Libraries that use `logging` come out in the
same form.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor

Format = Literal["console", "json"]
Level = Literal["debug", "info", "warning", "error"]

_SECRET_KEY = re.compile(
    r"token|secret|password|api_?key|authorization|invitation|private_key", re.IGNORECASE
)
# Keys that merely speak of secrets: where one lies, or how many there are.
_HARMLESS_KEY = re.compile(r"(_file|_path|_id|_count|_budget|^tokens)$", re.IGNORECASE)
_SECRET_TEXT = re.compile(r"\b(bearer)\s+[^\s'\"]+", re.IGNORECASE)
_REDACTED = "[redacted]"
_AUDIT = "vecdb.audit"


def configure(format: Format, level: Level, stream: TextIO | None = None) -> None:  # noqa: A002
    """Sets up logging for the process; may be called again.

    `stream` is stderr unless given. Values under keys that name a secret, and
    bearer tokens inside any text, are redacted.
    """
    stream = stream or sys.stderr
    threshold = logging.getLevelNamesMapping()[level.upper()]
    shared = _shared(format)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_last(format, stream)],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # Libraries are of interest when they complain, whatever our own level is.
    root.setLevel(max(threshold, logging.WARNING))
    for ours in ("vecdb", "vecdb_replication"):
        logging.getLogger(ours).setLevel(threshold)
    logging.getLogger(_AUDIT).setLevel(logging.INFO)


def audit_logger() -> structlog.typing.FilteringBoundLogger:
    """The logger of the audit log. Its lines leave whatever the least severe level of the others is."""
    made: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
        logging.getLogger(_AUDIT), wrapper_class=structlog.make_filtering_bound_logger(logging.INFO)
    )
    return made


def _shared(format: Format) -> list[Processor]:  # noqa: A002
    chain: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if format == "json":
        chain.append(structlog.processors.format_exc_info)
    return [*chain, redact]


def _last(format: Format, stream: TextIO) -> list[Processor]:  # noqa: A002
    if format == "json":
        return [
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(default=str, ensure_ascii=False),
        ]
    # A traceback without the values of variables: they hold documents and tokens.
    traceback = structlog.dev.plain_traceback
    return [
        structlog.dev.ConsoleRenderer(colors=stream.isatty(), pad_event_to=32, exception_formatter=traceback)
    ]


def redact(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """A structlog processor: no secret leaves in a log line."""
    _redact_map(event)
    return event


def _redact_map(values: MutableMapping[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(key, str) and _SECRET_KEY.search(key) and not _HARMLESS_KEY.search(key):
            values[key] = _REDACTED
        else:
            values[key] = _redacted(value)


def _redacted(value: Any) -> Any:
    if isinstance(value, str):
        return _SECRET_TEXT.sub(rf"\1 {_REDACTED}", value)
    if isinstance(value, dict):
        copy = dict(value)
        _redact_map(copy)
        return copy
    if isinstance(value, list | tuple):
        return [_redacted(item) for item in value]
    return value
