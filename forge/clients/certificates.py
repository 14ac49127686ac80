"""Whose certificates are believed when a forge is reached."""

from __future__ import annotations

import ssl
from pathlib import Path

from forge.model.errors import ForgeError


def trusted(ca_file: Path | None) -> ssl.SSLContext | bool:
    """Return what a connection checks a forge's certificate with, as aiohttp takes it.

    Args:
        ca_file: the certificates of authorities of one's own, in PEM, which then are the only ones; None: the system's.

    Raises:
        ForgeError: the file cannot be read, or has no certificate.
    """
    if ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=str(ca_file))
    except (OSError, ValueError) as error:
        # Errors of OpenSSL are such errors, too, and have no words for people.
        why = "it has no certificate in PEM" if isinstance(error, ssl.SSLError) else str(error)
        raise ForgeError(
            f"The certificate authority {ca_file} cannot be used: {why}. Correct `forge: ca_file` in muster.yaml.",
            code="forge.bad_ca_file",
        ) from None
