"""Records name people as they want, and hosts only if everybody may know them."""

from __future__ import annotations

import pytest

from forge.provenance.naming import public_host, public_name


def test_people_have_the_names_that_they_configured() -> None:
    names = {"matrix:@ana:example.org": "Ana"}
    assert public_name("matrix:@ana:example.org", names) == "Ana"
    assert public_name("matrix:@otto:example.org", names) == "an operator"


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("api.anthropic.com", "api.anthropic.com"), ("API.Example.ORG.", "api.example.org"),
        ("1.1.1.1", "1.1.1.1"),
        ("10.0.0.7", "internal"), ("[::1]", "internal"), ("127.0.0.1", "internal"), ("db", "internal"),
        ("", "internal"),
        ("git.corp", "internal"), ("nas.local", "internal"), ("a..b", "internal"),
        ("git.acme.example", "internal"), ("acme.example", "internal"), ("notacme.example", "notacme.example"),
    ],
)  # fmt: skip
def test_hosts_within_a_network_are_internal(host: str, shown: str) -> None:
    assert public_host(host, internal=("acme.example",)) == shown
