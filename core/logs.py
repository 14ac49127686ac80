"""The log format of every process: one JSON object per event and line, with stable keys and without secrets."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

import structlog

#: Log levels of libraries that log more than operators need.
_QUIET = {"alembic": logging.WARNING, "apscheduler": logging.WARNING, "nio": logging.WARNING}


def configure(
    handler: logging.Handler,
    redact: Callable[[str], str],
    *,
    level: int = logging.INFO,
    quiet: Mapping[str, int] = _QUIET,
) -> None:
    """Send all log events of Muster and its libraries to `handler`, including tracebacks.

    Args:
        handler: the destination.
        redact: masks secrets.
        level: the minimum level.
        quiet: the minimum levels of some loggers.
    """

    def masked(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {key: _masked(value, redact) for key, value in event.items()}

    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                masked,
                structlog.processors.JSONRenderer(ensure_ascii=True),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for library, least in quiet.items():
        logging.getLogger(library).setLevel(least)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def _masked(value: Any, redact: Callable[[str], str]) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, dict):
        return {redact(str(key)): _masked(item, redact) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_masked(item, redact) for item in value]
    # An exception or another object appears as its `repr`, which may contain a secret.
    return redact(value if isinstance(value, str) else repr(value))
