"""A certificate authority of one's own for the forge for tests: no system knows it."""

from __future__ import annotations

import ssl
from pathlib import Path

from egress.tunnel.certificate_authority import CertificateAuthority


def certified(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """Make an authority in a folder; return what a server on `localhost` needs, and the authority's certificate."""
    authority = CertificateAuthority(folder / "keys", folder / "certificates")
    authority.cover(["localhost"])
    return authority.context("localhost"), authority.certificates_file
