"""A tunnel is for the host that it was asked for, and its TLS handshake must say so."""

from __future__ import annotations

import contextlib
import ssl
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress.tunnel.certificate_authority import CertificateAuthority
from egress.tunnel.tls_client_hello import LONGEST_FLIGHT, ClientHelloReader, NameNotShown
from tests.egress.tunnel import client_hellos

HOST = "docs.python.org"
RIGHT = client_hellos.message(client_hellos.server_name(HOST.encode()))


def through(content: bytes, *, at_a_time: int = 1 << 20, host: str = HOST, is_address: bool = False) -> bytes:
    door = ClientHelloReader(host, is_address=is_address)
    return b"".join(door.feed(content[at : at + at_a_time]) for at in range(0, len(content), at_a_time))


@pytest.mark.parametrize("at_a_time", [1, 7, 1 << 20])
def test_a_handshake_for_the_right_host_goes_on_untouched(at_a_time: int) -> None:
    flight = client_hellos.real(HOST) + client_hellos.record(b"later", 23)
    assert through(flight, at_a_time=at_a_time) == flight


@pytest.mark.parametrize("size", [1, 3, 50])
def test_a_name_split_over_many_records_is_read_all_the_same(size: int) -> None:
    right = client_hellos.records(RIGHT, size)
    assert through(right) == right
    with pytest.raises(NameNotShown, match=r"evil\.example"):
        through(client_hellos.records(client_hellos.message(client_hellos.server_name(b"evil.example")), size))


def test_nothing_goes_on_before_the_hello_is_whole() -> None:
    door = ClientHelloReader(HOST)
    flight = client_hellos.records(RIGHT, 10)
    assert door.feed(flight[:-1]) == b""
    assert not door.opened
    assert door.feed(flight[-1:]) == flight
    assert door.opened


@pytest.mark.parametrize(
    ("flight", "why"),
    [
        (client_hellos.real("evil.example"), "names 'evil.example' instead of docs.python.org"),
        (client_hellos.real(None), "names no host"),
        (client_hellos.record(client_hellos.message(client_hellos.server_name(b"evil.docs.python.org"))), "instead of"),
        (
            client_hellos.record(
                client_hellos.message(client_hellos.server_name(HOST.encode() + b"\x00.evil.example"))
            ),
            "instead of",
        ),
        (
            client_hellos.record(client_hellos.message(client_hellos.server_name(HOST.encode(), b"evil.example"))),
            "one host",
        ),
        (client_hellos.record(client_hellos.message(client_hellos.server_name(HOST.encode(), kind=1))), "one host"),
        (client_hellos.record(client_hellos.message(client_hellos.server_name("d\u00f6cs".encode()))), "ASCII"),
        (
            client_hellos.record(
                client_hellos.message(
                    client_hellos.server_name(HOST.encode()), client_hellos.server_name(b"evil.example")
                )
            ),
            "twice",
        ),
        (
            client_hellos.record(
                client_hellos.message(client_hellos.server_name(HOST.encode()), client_hellos.extension(0xFE0D, b"x"))
            ),
            "hides",
        ),
        (client_hellos.record(RIGHT + RIGHT), "follows"),
        (client_hellos.record(b"\x02" + RIGHT[1:]), "does not begin with a ClientHello"),
        (client_hellos.record(b""), "malformed"),
        (client_hellos.record(b"\x01\x00\x00\x05abcde"), "malformed"),
        (client_hellos.record(client_hellos.message()[:-1] + b"\xff"), "malformed"),
        (b"\x16\x02\x00" + client_hellos.vector(2, RIGHT), "malformed"),
        (b"GET / HTTP/1.1\r\n", "not TLS"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "not TLS"),
        (b"\x80\x2e\x01\x00\x02", "not TLS"),
        (client_hellos.record(b"\x02\x28", 21) + client_hellos.record(RIGHT), "not TLS"),
        (b"P", "not TLS"),
    ],
)
def test_any_other_beginning_goes_nowhere(flight: bytes, why: str) -> None:
    for at_a_time in (1, 1 << 20):
        with pytest.raises(NameNotShown, match=why):
            through(flight, at_a_time=at_a_time)


def test_a_hello_without_end_is_given_up() -> None:
    with pytest.raises(NameNotShown, match="longer than"):
        through(client_hellos.record(b"\x01\xff\xff\xff"))
    door = ClientHelloReader(HOST)
    bomb = client_hellos.records(b"\x01\x00\x40\x00" + bytes(16_000), 1)
    assert door.feed(bomb[:LONGEST_FLIGHT]) == b""
    with pytest.raises(NameNotShown, match="more than"):
        door.feed(bomb[LONGEST_FLIGHT : LONGEST_FLIGHT + 1])


def test_an_address_has_no_name_to_show() -> None:
    assert through(client_hellos.real(None), host="93.184.216.34", is_address=True)
    with pytest.raises(NameNotShown, match="instead of"):
        through(client_hellos.real("evil.example"), host="93.184.216.34", is_address=True)


@pytest.mark.parametrize("between", [b"", client_hellos.record(b"\x01", 20), client_hellos.record(b"\x01", 20) * 2])
@pytest.mark.parametrize("size", [1, 5, 1000])
@pytest.mark.parametrize("at_a_time", [1, 1 << 20])
def test_a_second_hello_is_held_to_the_same(between: bytes, size: int, at_a_time: int) -> None:
    evil = client_hellos.message(client_hellos.server_name(b"evil.example"))
    with pytest.raises(NameNotShown, match=r"evil\.example"):
        through(client_hellos.record(RIGHT) + between + client_hellos.records(evil, size), at_a_time=at_a_time)
    fine = (
        client_hellos.record(RIGHT) + between + client_hellos.records(RIGHT, size) + client_hellos.record(b"data", 23)
    )
    assert through(fine, at_a_time=at_a_time) == fine


def test_a_real_handshake_in_which_the_server_asks_for_a_second_hello_goes_through(tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path / "ca", tmp_path / "trust", system=tmp_path / "none")
    authority.cover([HOST])
    theirs = authority.context(HOST)
    # OpenSSL's clients offer a key for another group first.
    theirs.set_ecdh_curve("secp521r1")
    to_client, to_server, on_the_way = ssl.MemoryBIO(), ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = ssl.create_default_context(cadata=authority.certificates())
    client = ours.wrap_bio(to_client, on_the_way, server_hostname=HOST)
    server = theirs.wrap_bio(to_server, to_client, server_side=True)
    door = ClientHelloReader(HOST)
    hellos_seen = 0
    for _ in range(6):
        with contextlib.suppress(ssl.SSLWantReadError):
            client.do_handshake()
        sent = on_the_way.read()
        hellos_seen += sent.count(HOST.encode())
        to_server.write(door.feed(sent))
        with contextlib.suppress(ssl.SSLWantReadError):
            server.do_handshake()
    assert hellos_seen == 2
    assert door.settled
    assert server.version() == client.version() == "TLSv1.3"
    client.write(b"hello")
    to_server.write(door.feed(on_the_way.read()))
    assert server.read(5) == b"hello"


def test_early_data_does_not_hide_a_second_hello() -> None:
    first = client_hellos.record(
        client_hellos.message(client_hellos.server_name(HOST.encode()), client_hellos.extension(42, b""))
    )
    evil = client_hellos.record(client_hellos.message(client_hellos.server_name(b"evil.example")))
    door = ClientHelloReader(HOST)
    early = first + client_hellos.record(bytes(16_000), 23) * 3
    assert door.feed(early) == early
    with pytest.raises(NameNotShown):
        door.feed(evil)
    door = ClientHelloReader(HOST)
    assert door.feed(early + evil[:-1]) == early
    with pytest.raises(NameNotShown):
        door.feed(evil[-1:])


def test_what_follows_in_an_older_handshake_is_not_taken_for_a_hello() -> None:
    # TLS 1.2 resumed: change_cipher_spec, then an encrypted message, here with the byte of a ClientHello in front.
    flight = (
        client_hellos.record(RIGHT)
        + client_hellos.record(b"\x01", 20)
        + client_hellos.record(b"\x01\xaa\xbb\xcc\xdd" + bytes(35))
    )
    assert through(flight) == flight


@given(st.binary(max_size=300), st.integers(min_value=0, max_value=len(RIGHT)))
def test_garbage_is_refused_or_waits_and_never_passes(garbage: bytes, kept: int) -> None:
    door = ClientHelloReader("never-named.example")
    with contextlib.suppress(NameNotShown):
        assert door.feed(client_hellos.record(RIGHT[:kept] + garbage) + garbage) == b""
