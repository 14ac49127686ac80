from __future__ import annotations

import pytest

from core.network.loopback import is_loopback, is_loopback_address


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1"])
def test_an_address_of_this_machine(host: str) -> None:
    assert is_loopback_address(host)
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "192.0.2.1", "::2", "example.org", "127.0.0.1.example.org", "127.1", "0.0.0.0"])
def test_other_hosts(host: str) -> None:
    assert not is_loopback_address(host)
    assert not is_loopback(host)


def test_localhost_is_a_name() -> None:
    assert is_loopback("localhost")
    assert not is_loopback_address("localhost")
