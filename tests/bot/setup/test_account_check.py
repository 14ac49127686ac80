"""A key is tested where it will be used, without tokens, and without its text in any message."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from bot.setup import account_check
from core.secret_references import Reference

KEY = Reference("env", "KEY")


@contextmanager
def provider(status: int) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A provider that gives this status, with the headers that came."""
    came: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            came.append({"path": self.path, **{name.lower(): value for name, value in self.headers.items()}})
            self.send_response(status)
            self.send_header("Location", "http://127.0.0.1:1/elsewhere")
            self.end_headers()
            self.wfile.write(b"secret-key")

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", came
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(("status", "accepted"), [(200, True), (401, False), (403, None), (404, None), (302, None)])
def test_the_answer_decides(status: int, accepted: bool | None) -> None:
    with provider(status) as (address, came):
        told = account_check.check("anthropic", KEY, {"KEY": "secret-key"}, base_url=address)
    assert told.accepted is accepted
    assert "secret-key" not in str(told)
    assert [each["path"] for each in came] == ["/v1/models?limit=1"]
    assert came[0]["x-api-key"] == "secret-key"


def test_a_subscriptions_token_goes_as_one() -> None:
    with provider(200) as (address, came):
        assert account_check.check("anthropic", KEY, {"KEY": "sk-ant-oat-1"}, base_url=address).accepted
    assert came[0]["authorization"] == "Bearer sk-ant-oat-1"
    assert "x-api-key" not in came[0]


def test_openai_gets_a_bearer() -> None:
    with provider(401) as (address, came):
        told = account_check.check("openai", KEY, {"KEY": "sk-1"}, base_url=address)
    assert told.accepted is False
    assert came[0]["authorization"] == "Bearer sk-1"


def test_what_cannot_be_asked_is_unknown() -> None:
    told = account_check.check("openai", KEY, {"KEY": "sk-1"}, base_url="http://127.0.0.1:9")
    assert told.accepted is None
    assert "does not answer" in str(told.answered)
    assert account_check.check("openai", KEY, {}) == account_check.AccountAnswer(accepted=None)


def test_a_key_that_is_no_header_is_refused_unsaid() -> None:
    with provider(200) as (address, came):
        told = account_check.check("openai", KEY, {"KEY": "two\nlines"}, base_url=address)
    assert told.accepted is False
    assert came == []
    assert "two" not in str(told)
