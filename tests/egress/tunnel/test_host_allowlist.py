"""What can be listed as a route, what can be asked for, and that nothing else gets through."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress.tunnel.host_allowlist import NoTarget, RouteError, hostname, route, routes, target, which

LISTED = routes(
    [
        "docs.python.org",
        "GitHub.com.:8443",
        "*.example.org",
        "10.0.0.5:8080",
        "10.1.0.0/24:8080",
        "[fd00::5]:8080",
        "[fd01::/64]:8080",
        "b\u00fccher.example",
    ]
)


def reached(authority: str) -> bool:
    return which(LISTED, target(authority)) is not None


@pytest.mark.parametrize(
    "authority",
    [
        "docs.python.org:443",
        "DOCS.python.ORG:443",
        "docs.python.org.:443",
        "github.com:8443",
        "a.example.org:443",
        "a.b.c.example.org:443",
        "10.0.0.5:8080",
        "10.1.0.255:8080",
        "[fd00:0::5]:8080",
        "[fd01::1:2]:8080",
        "xn--bcher-kva.example:443",
    ],
)
def test_listed_hosts_are_reached(authority: str) -> None:
    assert reached(authority)


@pytest.mark.parametrize(
    "authority",
    [
        "docs.python.org:80",
        "python.org:443",
        "evil-docs.python.org:443",
        "docs.python.org.evil.example:443",
        "github.com:443",
        "example.org:443",
        "evilexample.org:443",
        "a.example.org:8443",
        "10.0.0.6:8080",
        "10.0.0.5:80",
        "10.1.1.0:8080",
        "[fd01:0:0:1::1]:8080",
        "127.0.0.1:443",
        "93.184.216.34:443",
    ],
)
def test_everything_else_is_closed(authority: str) -> None:
    assert not reached(authority)


@pytest.mark.parametrize(
    "authority",
    [
        "",
        "docs.python.org",
        "docs.python.org:",
        "docs.python.org:0",
        "docs.python.org:65536",
        "docs.python.org:0443",
        "docs.python.org:+443",
        "docs.python.org:443/",
        "docs.python.org:443:443",
        "docs.python.org:\u0664\u0664\u0663",
        "docs.python.org :443",
        "docs.python.org\x00.evil.example:443",
        "docs.python.org\t:443",
        "user@docs.python.org:443",
        "docs.python.org@evil.example:443",
        "https://docs.python.org:443",
        "docs..python.org:443",
        ".docs.python.org:443",
        "docs.python.org..:443",
        "_dmarc.example.org:443",
        "a_b.example.org:443",
        "-a.example.org:443",
        "a%2eexample.org:443",
        "*.example.org:443",
        "d\u043ecs.python.org:443",
        "b\u00fccher.example:443",
        "docs\u3002python.org:443",
        "xn--\u00fc.example:443",
        "xn--999999999.example:443",
        f"{'a' * 64}.example.org:443",
        f"{'a.' * 124}example.org:443",
        "localhost:443",
        "a.localhost:443",
        "localhost.localdomain:443",
        "intranet:443",
        # Every way of writing 127.0.0.1 that some resolver takes, but for the plain one.
        "2130706433:443",
        "0x7f000001:443",
        "0x7f.1:443",
        "127.1:443",
        "127.0.1:443",
        "0177.0.0.1:443",
        "127.0.0.01:443",
        "127.0.0.1.:443",
        "a.0x7f:443",
        "1.2.3.4.5:443",
        "\uff11\uff12\uff17.0.0.1:443",
        "::1:443",
        "[::1:443",
        "[::1]",
        "[::1]443",
        "[127.0.0.1]:443",
        "[docs.python.org]:443",
        "[fe80::1%eth0]:443",
        "[::ffff:127.0.0.1]:443",
        "[::ffff:7f00:1]:443",
        "[2002:7f00:1::]:443",
        "0.0.0.0:443",
        "[::]:443",
        "224.0.0.1:443",
    ],
)
def test_what_could_be_read_in_two_ways_is_asked_for_in_vain(authority: str) -> None:
    with pytest.raises(NoTarget, match="CONNECT HOST:PORT"):
        target(authority)


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("https://docs.python.org/3/", "URL"),
        ("docs.python.org:https", "1 to 65535"),
        ("*", "no name of a host|single word"),
        ("*.org", "single word"),
        ("a.*.org", "no name of a host"),
        ("*example.org", "no name of a host"),
        ("fd00::5", "brackets"),
        ("10.0.0.1/8:80", "host bits"),
        ("localhost:8080", "127.0.0.1:8080"),
        ("127.1:80", "disguise"),
        ("me@github.com", "no user"),
        ("", "empty"),
    ],
)
def test_a_wrong_line_says_why_and_how_it_is_written(written: str, why: str) -> None:
    with pytest.raises(RouteError, match=why) as caught:
        route(written)
    assert "docs.python.org" in str(caught.value)


@pytest.mark.parametrize("wide", ["0.0.0.0/0:80", "128.0.0.0/1:80", "[::/0]:80", "169.0.0.0/8:80"])
@pytest.mark.parametrize("near", ["127.0.0.1:80", "169.254.169.254:80", "[::1]:80", "[fe80::1]:80"])
def test_a_wide_network_opens_neither_this_machine_nor_its_link(wide: str, near: str) -> None:
    assert which(routes([wide]), target(near)) is None


@pytest.mark.parametrize("near", ["127.0.0.1:80", "169.254.169.254:80", "[::1]:80", "[fe80::1]:80"])
def test_listed_by_its_own_address_it_is_open(near: str) -> None:
    assert which(routes([near]), target(near)) is not None


@pytest.mark.parametrize("written", ["docs.python.org", "*.example.org:8443", "10.0.0.0/24:80", "[fd00::5]:80"])
def test_a_route_is_shown_as_it_can_be_written_again(written: str) -> None:
    assert route(str(route(written))) == route(written)


def test_hosts_of_upstreams_are_compared_in_one_form() -> None:
    assert hostname("API.Example.COM.") == "api.example.com"
    assert hostname("127.0.0.1") is None
    assert hostname("localhost") is None


@given(st.text(max_size=60))
def test_whatever_is_asked_is_one_canonical_thing_or_nothing(text: str) -> None:
    try:
        found = target(text)
    except NoTarget:
        return
    assert target(str(found)) == found
    assert found.host.isascii()
    assert found.host == found.host.lower()
    if found.ip is None:
        with pytest.raises(ValueError, match="does not appear"):
            ipaddress.ip_address(found.host)
