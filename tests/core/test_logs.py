"""No secret stands in a log, wherever in an event it was."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from core import logs
from core.redaction import SecretMasker
from egress.process import configure_log

KEY = "sk-of-the-account-1234"


class _Holder:
    def __repr__(self) -> str:
        return f"<{KEY}>"


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """The test's own logging comes back."""
    root = logging.getLogger()
    handlers, level, known = root.handlers[:], root.level, structlog.get_config()
    yield
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**known)


def say() -> None:
    log = structlog.get_logger("tests")
    log.info(f"with {KEY}", error=KEY, of=[{"deep": (KEY, {KEY: 1})}], holder=_Holder(), count=3)
    try:
        raise ValueError(f"with {KEY}") from KeyError("\\u0073" + KEY[1:])
    except ValueError:
        log.exception("broken")
        logging.getLogger("a.library").exception("broken with %s", KEY)
    logging.getLogger("asyncio").error("Task exception was never retrieved: %r", ValueError(KEY))


def check(lines: list[str]) -> None:
    assert len(lines) == 4
    events = [json.loads(line) for line in lines]
    assert [event["level"] for event in events] == ["info", "error", "error", "error"]
    assert events[0]["count"] == 3
    assert "Traceback" in events[1]["exception"]
    assert "of-the-account" not in "".join(lines)


def test_the_log_of_the_orchestrator_has_no_secret() -> None:
    stream = io.StringIO()
    logs.configure(logging.StreamHandler(stream), SecretMasker(known=frozenset({KEY})))
    say()
    check(stream.getvalue().splitlines())


def test_the_log_of_the_egress_has_no_secret_that_it_learned_since(tmp_path: Path) -> None:
    redact = SecretMasker()
    configure_log(tmp_path / "egress.log", redact)
    redact.values.learn([KEY])
    say()
    check((tmp_path / "egress.log").read_text().splitlines())
