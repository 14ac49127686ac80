"""The part of the host's system that every sandbox shows, read-only: programs, libraries and what names and
certificates need. No keys, no shadow, nobody's home, none of the host's sockets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fleet.programs import SYSTEM
from fleet.sandbox.bubblewrap import Mount

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Of /etc only these. Not /etc/ssl as a whole: private keys lie in it.
ETC = (
    "alternatives",
    "bash.bashrc",
    "ca-certificates",
    "ca-certificates.conf",
    "debian_version",
    "gai.conf",
    "group",
    "host.conf",
    "hosts",
    "inputrc",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "locale.alias",
    "localtime",
    "lsb-release",
    "magic",
    "mime.types",
    "nsswitch.conf",
    "os-release",
    "passwd",
    "pki/ca-trust",
    "pki/tls/cert.pem",
    "pki/tls/certs",
    "protocols",
    "resolv.conf",
    "services",
    "shells",
    "ssl/cert.pem",
    "ssl/certs",
    "ssl/openssl.cnf",
    "terminfo",
    "timezone",
)


def system(root: Path = Path("/")) -> tuple[Mount, ...]:
    """What of the host's system there is to show."""
    return tuple(_mounts(root))


def _mounts(root: Path) -> Iterator[Mount]:
    for folder in SYSTEM:
        found = root / folder.relative_to("/")
        if found.is_symlink():
            yield Mount("link", folder, found.readlink())
        elif found.is_dir():
            yield Mount("readonly", folder)
    for name in ETC:
        place = Path("/etc") / name
        found = root / "etc" / name
        if not found.exists():
            continue
        real = found.resolve()
        if found.is_symlink() and any(real.is_relative_to(folder) for folder in SYSTEM):
            yield Mount("link", place, found.readlink())
        else:
            # A link to what is not shown, as /etc/resolv.conf often is: its target stands in for it.
            yield Mount("readonly", place, real)
