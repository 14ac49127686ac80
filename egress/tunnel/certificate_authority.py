"""The certificate authority for intercepted connections to metered hosts.

It is created on first use and stays on this host. Its own certificate limits what it may certify: the metered hosts,
and no address (name constraints, RFC 5280, section 4.2.1.10). So even its key would open nothing else. Keys are in a
folder that sandboxes cannot see; sandboxes see only certificates.

When the metered hosts change, or a certificate nears its end, another authority is added and all are published. A
program that read its certificates at startup can still verify one that it knows.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import ssl
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from core.errors import MusterError

AUTHORITY_LIFE: Final = datetime.timedelta(days=180)
#: How long before an authority's end another one is added. Programs that start in this time know both.
OVERLAP: Final = datetime.timedelta(days=60)
LEAF_LIFE: Final = datetime.timedelta(days=7)
#: The shortest remaining validity of a served certificate.
LEAF_LEFT: Final = datetime.timedelta(days=2)
#: Allows for clocks that differ.
BACKDATED: Final = datetime.timedelta(hours=12)
#: How many authorities for former sets of hosts are kept, for programs that know no other.
MOST_SUPERSEDED: Final = 4
#: The number of cached leaf certificates with their contexts.
MOST_LEAVES: Final = 64

#: The trusted certificates of Debian, Fedora, older Fedora, openSUSE and Alpine.
SYSTEM_STORES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)

CERTIFICATES: Final = "ca.pem"
BUNDLE: Final = "bundle.pem"

log = structlog.get_logger(__name__)


class NotMetered(MusterError):
    """The egress creates no certificate for a host that is not metered."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Issuer:
    path: Path
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    hosts: frozenset[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Leaf:
    context: ssl.SSLContext
    ends: datetime.datetime


class CertificateAuthority:
    """Creates certificates for metered hosts. Belongs to one event loop."""

    def __init__(
        self,
        folder: Path,
        trust: Path,
        *,
        now: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC),
        system: Path | None = None,
    ) -> None:
        """
        Args:
            folder: the private folder for keys.
            trust: the folder for certificates, which sandboxes see: `ca.pem` with ours only, and `bundle.pem` with ours
                and the system's. The bundle is for clients that use one file instead of their defaults.
            now: the clock, in UTC.
            system: the system's trusted certificates; None: search the usual places.
        """
        self._folder = folder
        self._trust = trust
        self._now = now
        self._system = system
        self._issuers: list[_Issuer] = []
        """The oldest first."""
        self._hosts: frozenset[str] = frozenset()
        self._leaves: dict[str, _Leaf] = {}

    @property
    def certificates_file(self) -> Path:
        return self._trust / CERTIFICATES

    @property
    def bundle_file(self) -> Path:
        return self._trust / BUNDLE

    def cover(self, hosts: Iterable[str]) -> None:
        """Certify exactly these hosts from now on, and publish the certificates.

        A new authority is created only if needed.

        Raises:
            OSError: the folders cannot be written.
        """
        self._hosts = frozenset(hosts)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder.chmod(0o700)
        self._trust.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._issuers = self._stored()
        lasting = [each for each in self._issuers if each.hosts == self._hosts and self._left(each) > OVERLAP]
        if self._hosts and not lasting:
            self._issuers.append(self._make())
        self._tidy()
        _write(self.certificates_file, self.certificates(), 0o644)
        _write(self.bundle_file, self.bundle(), 0o644)

    def certificates(self) -> str:
        """Return our certificates in PEM, which a sandbox trusts in addition to its defaults."""
        return "".join(
            each.certificate.public_bytes(serialization.Encoding.PEM).decode() for each in reversed(self._issuers)
        )

    def bundle(self) -> str:
        """Return the system's certificates and ours, in PEM."""
        for store in self._stores():
            with contextlib.suppress(OSError, UnicodeDecodeError):
                return f"{store.read_text(encoding='utf-8').rstrip()}\n{self.certificates()}"
        log.warning("no certificates of the system found; sandboxes trust metered hosts alone", looked=SYSTEM_STORES)
        return self.certificates()

    def context(self, host: str) -> ssl.SSLContext:
        """Return the TLS context with which to answer a client of a metered host.

        Raises:
            NotMetered: the host is not covered.
        """
        if host not in self._hosts:
            raise NotMetered(f"{host} is not metered.")
        leaf = self._leaves.get(host)
        if leaf is None or leaf.ends - self._now() < LEAF_LEFT:
            leaf = self._leaf(host)
            if len(self._leaves) >= MOST_LEAVES:
                self._leaves.pop(next(iter(self._leaves)))
            self._leaves[host] = leaf
        return leaf.context

    def _leaf(self, host: str) -> _Leaf:
        issuer = self._issuer(host)
        longest = max((self._left(each) for each in self._issuers if each.hosts == self._hosts), default=None)
        if issuer is None or longest is None or longest <= OVERLAP:
            self.cover(self._hosts)
            issuer = self._issuer(host)
        assert issuer is not None, "a covered host has an issuer"
        key = ec.generate_private_key(ec.SECP256R1())
        now = self._now()
        certificate = (
            _builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:64])]), issuer.certificate.subject)
            .public_key(key.public_key())
            .not_valid_before(max(now - BACKDATED, issuer.certificate.not_valid_before_utc))
            .not_valid_after(now + LEAF_LIFE)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()),
                critical=False,
            )
            .sign(issuer.key, hashes.SHA256())
        )
        return _Leaf(context=self._server_context(key, certificate), ends=certificate.not_valid_after_utc)

    def _server_context(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        context.set_alpn_protocols(["http/1.1"])
        # The ssl module loads keys only from files.
        with tempfile.NamedTemporaryFile(dir=self._folder, prefix="leaf-") as file:
            file.write(_key_pem(key) + certificate.public_bytes(serialization.Encoding.PEM))
            file.flush()
            context.load_cert_chain(file.name)
        return context

    def _issuer(self, host: str) -> _Issuer | None:
        """Return the oldest suitable authority, which most programs know, or None."""
        return next((each for each in self._issuers if host in each.hosts and self._left(each) > LEAF_LIFE), None)

    def _left(self, issuer: _Issuer) -> datetime.timedelta:
        return issuer.certificate.not_valid_after_utc - self._now()

    def _make(self) -> _Issuer:
        key = ec.generate_private_key(ec.SECP256R1())
        now = self._now()
        serial = x509.random_serial_number()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Muster egress {now:%Y-%m-%d} {serial:040x}"[:40])])
        constraints = x509.NameConstraints(
            permitted_subtrees=[x509.DNSName(host) for host in sorted(self._hosts)],
            excluded_subtrees=[
                x509.IPAddress(ipaddress.ip_network("0.0.0.0/0")),
                x509.IPAddress(ipaddress.ip_network("::/0")),
            ],
        )
        certificate = (
            _builder(name, name, serial)
            .public_key(key.public_key())
            .not_valid_before(now - BACKDATED)
            .not_valid_after(now + AUTHORITY_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(constraints, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        path = self._folder / f"authority-{serial:040x}.pem"
        content = _key_pem(key) + certificate.public_bytes(serialization.Encoding.PEM)
        _write(path, content.decode(), 0o600)
        log.info("certificate authority made", hosts=sorted(self._hosts), until=str(certificate.not_valid_after_utc))
        return _Issuer(path=path, certificate=certificate, key=key, hosts=self._hosts)

    def _stored(self) -> list[_Issuer]:
        found = []
        for path in self._folder.glob("authority-*.pem"):
            try:
                issuer = _read(path)
            except (OSError, ValueError, TypeError, x509.ExtensionNotFound) as error:
                log.warning(
                    "a certificate authority cannot be read; it is left alone", path=str(path), error=str(error)
                )
                continue
            if self._left(issuer) > datetime.timedelta(0):
                found.append(issuer)
            else:
                path.unlink(missing_ok=True)
        return sorted(found, key=lambda each: (each.certificate.not_valid_before_utc, each.path.name))

    def _tidy(self) -> None:
        superseded = [each for each in self._issuers if each.hosts != self._hosts]
        for each in superseded[: max(0, len(superseded) - MOST_SUPERSEDED)]:
            each.path.unlink(missing_ok=True)
            self._issuers.remove(each)

    def _stores(self) -> Sequence[Path]:
        if self._system is not None:
            return [self._system]
        default = ssl.get_default_verify_paths().cafile
        return [Path(each) for each in ((default,) if default else ()) + SYSTEM_STORES]


def _builder(subject: x509.Name, issuer: x509.Name, serial: int | None = None) -> x509.CertificateBuilder:
    number = x509.random_serial_number() if serial is None else serial
    return x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).serial_number(number)


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _read(path: Path) -> _Issuer:
    content = path.read_bytes()
    key = serialization.load_pem_private_key(content, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("its key is of another kind.")
    certificate = x509.load_pem_x509_certificate(content)
    constraints = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    hosts = frozenset(each.value for each in constraints.permitted_subtrees or () if isinstance(each, x509.DNSName))
    return _Issuer(path=path, certificate=certificate, key=key, hosts=hosts)


def _write(path: Path, content: str, mode: int) -> None:
    """Write a file atomically, and never with more permissions than `mode`."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).rename(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
