"""The authority vouches for the metered hosts, for nothing else, and its key stays where it is."""

from __future__ import annotations

import datetime
import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from egress.tunnel.certificate_authority import (
    AUTHORITY_LIFE,
    LEAF_LIFE,
    MOST_SUPERSEDED,
    OVERLAP,
    CertificateAuthority,
    NotMetered,
)

HOSTS = ("api.anthropic.com", "api.openai.com")


class Clock:
    def __init__(self) -> None:
        # Within the true time's validity, for OpenSSL looks at its own clock.
        self.time = datetime.datetime.now(datetime.UTC)

    def __call__(self) -> datetime.datetime:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


def made(tmp_path: Path, clock: Clock, hosts: tuple[str, ...] = HOSTS) -> CertificateAuthority:
    system = tmp_path / "system.pem"
    system.write_text("# the system's own\n")
    authority = CertificateAuthority(tmp_path / "ca", tmp_path / "trust", now=clock, system=system)
    authority.cover(hosts)
    return authority


def keys(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "ca").iterdir())


def shake(server: ssl.SSLContext, name: str, trusted: str, alpn: list[str] | None = None) -> ssl.SSLObject:
    """A handshake in memory; raises what the client does not like."""
    context = ssl.create_default_context(cadata=trusted)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    if alpn:
        context.set_alpn_protocols(alpn)
    return _shaken(context, server, name)


def _shaken(context: ssl.SSLContext, server: ssl.SSLContext, name: str) -> ssl.SSLObject:
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(to_client, to_server, server_hostname=name)
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (client, theirs):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return client


def served(server: ssl.SSLContext, name: str) -> x509.Certificate:
    """The certificate that a client is shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    shown = _shaken(context, server, name).getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown)


def forged(stolen: Path, host: str) -> ssl.SSLContext:
    """A server with a certificate for `host`, signed with an authority's key by somebody else."""
    content = stolen.read_bytes()
    authority = x509.load_pem_x509_certificate(content)
    signs = serialization.load_pem_private_key(content, None)
    assert isinstance(signs, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)]))
        .issuer_name(authority.subject)
        .serial_number(x509.random_serial_number())
        .public_key(key.public_key())
        .not_valid_before(authority.not_valid_before_utc)
        .not_valid_after(authority.not_valid_after_utc)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signs.public_key()), critical=False)
        .sign(signs, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    file = stolen.parent.with_name(f"{host}.pem")
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


def test_a_client_that_trusts_it_opens_a_metered_host(tmp_path: Path, clock: Clock) -> None:
    authority = made(tmp_path, clock)
    for host in HOSTS:
        client = shake(authority.context(host), host, authority.certificates(), ["h2", "http/1.1"])
        assert client.selected_alpn_protocol() == "http/1.1"
        assert client.version() in {"TLSv1.2", "TLSv1.3"}


def test_its_certificate_says_what_it_is_for_and_nobody_believes_it_more(tmp_path: Path, clock: Clock) -> None:
    authority = made(tmp_path, clock)
    certificate = x509.load_pem_x509_certificate(authority.certificates().encode())
    constraints = certificate.extensions.get_extension_for_class(x509.NameConstraints)
    assert constraints.critical
    assert constraints.value.permitted_subtrees == [x509.DNSName(host) for host in HOSTS]
    basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert basic.critical
    assert (basic.value.ca, basic.value.path_length) == (True, 0)
    # Whoever had the key and signed for another host with it would not be believed.
    (stolen,) = keys(tmp_path)
    shake(forged(stolen, HOSTS[0]), HOSTS[0], authority.certificates())
    with pytest.raises(ssl.SSLCertVerificationError, match="subtree"):
        shake(forged(stolen, "github.com"), "github.com", authority.certificates())


def test_no_other_host_gets_a_certificate(tmp_path: Path, clock: Clock) -> None:
    authority = made(tmp_path, clock)
    for host in ("github.com", "evil.api.anthropic.com", "API.anthropic.com", "", "127.0.0.1"):
        with pytest.raises(NotMetered):
            authority.context(host)


def test_keys_are_nobody_elses_and_certificates_are_shown_without_them(tmp_path: Path, clock: Clock) -> None:
    authority = made(tmp_path, clock)
    authority.context(HOSTS[0])
    assert stat.S_IMODE((tmp_path / "ca").stat().st_mode) == 0o700
    (key,) = keys(tmp_path)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert "PRIVATE KEY" in key.read_text()
    for shown in (authority.certificates_file, authority.bundle_file):
        assert stat.S_IMODE(shown.stat().st_mode) == 0o644
        assert "PRIVATE" not in shown.read_text()
    assert authority.bundle_file.read_text() == f"# the system's own\n{authority.certificates()}"
    assert authority.certificates_file.read_text() == authority.certificates()


def test_after_a_restart_it_is_the_same(tmp_path: Path, clock: Clock) -> None:
    before = made(tmp_path, clock).certificates()
    after = made(tmp_path, clock)
    assert after.certificates() == before
    shake(after.context(HOSTS[0]), HOSTS[0], before)


def test_programs_that_know_only_an_older_authority_are_served_by_it(tmp_path: Path, clock: Clock) -> None:
    old = made(tmp_path, clock).certificates()
    further = made(tmp_path, clock, (*HOSTS, "models.example.com"))
    shake(further.context(HOSTS[0]), HOSTS[0], old)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(further.context("models.example.com"), "models.example.com", old)
    shake(further.context("models.example.com"), "models.example.com", further.certificates())
    # Back again: nothing new is made.
    assert made(tmp_path, clock).certificates().count("BEGIN") == 2


def test_a_host_that_is_metered_no_more_gets_no_certificate(tmp_path: Path, clock: Clock) -> None:
    made(tmp_path, clock, (*HOSTS, "models.example.com"))
    with pytest.raises(NotMetered):
        made(tmp_path, clock).context("models.example.com")


def test_before_its_end_another_one_stands_beside_it_and_takes_over(tmp_path: Path, clock: Clock) -> None:
    authority = made(tmp_path, clock)
    old = authority.certificates()
    first = authority.context(HOSTS[0])
    assert authority.context(HOSTS[0]) is first
    clock.time += AUTHORITY_LIFE - OVERLAP + datetime.timedelta(minutes=1)
    assert authority.context(HOSTS[0]) is not first
    both = authority.certificates_file.read_text()
    assert both.count("BEGIN") == 2
    assert old in both
    clock.time += OVERLAP - LEAF_LIFE
    newer, _ = x509.load_pem_x509_certificates(authority.certificates().encode())
    served(authority.context(HOSTS[0]), HOSTS[0]).verify_directly_issued_by(newer)
    clock.time += LEAF_LIFE
    authority.cover(HOSTS)
    assert old not in authority.certificates_file.read_text()
    assert len(keys(tmp_path)) == 1


def test_sets_of_hosts_that_come_and_go_leave_a_bounded_number_behind(tmp_path: Path, clock: Clock) -> None:
    for number in range(MOST_SUPERSEDED + 3):
        clock.time += datetime.timedelta(minutes=1)
        made(tmp_path, clock, (*HOSTS, f"m{number}.example.com"))
    assert len(keys(tmp_path)) == MOST_SUPERSEDED + 1


def test_a_damaged_file_is_left_alone_and_a_new_authority_made(tmp_path: Path, clock: Clock) -> None:
    made(tmp_path, clock)
    (damaged,) = keys(tmp_path)
    damaged.write_text("half a")
    authority = made(tmp_path, clock)
    shake(authority.context(HOSTS[0]), HOSTS[0], authority.certificates())
    assert damaged.read_text() == "half a"


def test_without_a_store_of_the_system_ours_is_all(tmp_path: Path, clock: Clock) -> None:
    authority = CertificateAuthority(tmp_path / "ca", tmp_path / "trust", now=clock, system=tmp_path / "none")
    authority.cover(HOSTS)
    assert authority.bundle() == authority.certificates()


def test_the_systems_certificates_are_found(tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path / "ca", tmp_path / "trust")
    authority.cover(HOSTS)
    context = ssl.create_default_context(cafile=str(authority.bundle_file))
    assert context.cert_store_stats()["x509_ca"] > 10
