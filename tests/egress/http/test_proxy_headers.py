"""Which headers reach the provider, and which come back."""

from __future__ import annotations

import pytest

from egress.http import header_filter


def test_what_the_agent_sent_as_its_credential_never_leaves() -> None:
    sent = header_filter.outgoing(
        [
            ("X-Api-Key", "placeholder"),
            ("Authorization", "Bearer placeholder"),
            ("Cookie", "a=b"),
            ("Proxy-Authorization", "Basic x"),
            ("OpenAI-Organization", "other"),
            ("OpenAI-Project", "other"),
            ("X-Forwarded-For", "10.0.0.1"),
            ("Forwarded", "for=10.0.0.1"),
            ("Host", "evil"),
            ("Content-Length", "5"),
            ("Transfer-Encoding", "chunked"),
            ("Accept-Encoding", "gzip"),
            ("anthropic-version", "2023-06-01"),
        ],
        provider="anthropic",
        credential="sk-ant-api-real",
    )
    assert dict(sent) == {
        "anthropic-version": "2023-06-01",
        "Accept-Encoding": "identity",
        "x-api-key": "sk-ant-api-real",
    }


def test_tokens_of_a_subscription_and_keys_of_openai_are_bearers() -> None:
    assert header_filter.outgoing([], provider="anthropic", credential="sk-ant-oat01-x")["Authorization"] == (
        "Bearer sk-ant-oat01-x"
    )
    assert header_filter.outgoing([], provider="openai", credential="sk-x")["Authorization"] == "Bearer sk-x"


def test_connection_names_headers_that_stay_but_cannot_take_the_credential_away() -> None:
    sent = header_filter.outgoing(
        [("Connection", "close, X-Secret, x-api-key"), ("X-Secret", "1"), ("Keep", "1")],
        provider="anthropic",
        credential="real",
    )
    assert "X-Secret" not in sent
    assert "Connection" not in sent
    assert sent["Keep"] == "1"
    assert sent["x-api-key"] == "real"


def test_an_account_without_a_credential_sends_none_and_one_passed_through_the_agents_own() -> None:
    came = [("Authorization", "Bearer own")]
    assert "Authorization" not in header_filter.outgoing(came, provider="openai", credential=None)
    assert header_filter.outgoing(came, provider="openai", credential=None, own=True)["Authorization"] == "Bearer own"


def test_a_header_that_is_no_text_is_named_without_its_value() -> None:
    with pytest.raises(ValueError, match="X-Odd") as raised:
        header_filter.outgoing([("X-Odd", "secret\udcff")], provider="openai", credential=None)
    assert "secret" not in str(raised.value)


def test_what_comes_back_is_what_the_provider_said_of_the_content() -> None:
    came = [
        (b"Content-Type", b"text/event-stream"),
        (b"Content-Encoding", b"gzip"),
        (b"Content-Length", b"5"),
        (b"Set-Cookie", b"a=b"),
        (b"Alt-Svc", b'h3=":443"'),
        (b"Location", b"http://elsewhere"),
        (b"Connection", b"X-Hop"),
        (b"X-Hop", b"1"),
        (b"Request-Id", b"req_1"),
    ]
    assert header_filter.returning(came, decoded=True) == [
        (b"Content-Type", b"text/event-stream"),
        (b"Request-Id", b"req_1"),
    ]
    assert (b"Content-Encoding", b"gzip") in header_filter.returning(came, decoded=False)
