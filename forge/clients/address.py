"""The address of a forge, checked before a token is sent there."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from core.network.loopback import is_loopback
from forge.model.references import RepositoryName


@dataclass(frozen=True, slots=True)
class ForgeAddress:
    """Where people reach a forge: the address of its start page."""

    url: str
    """Without a slash at the end. It may have a path, such as ``https://host.example/gitea``."""

    @property
    def host(self) -> str:
        """The host, and the port if there is one."""
        return urlsplit(self.url).netloc

    def clone_url(self, name: RepositoryName) -> str:
        """Return where git reaches a repository.

        It is made from the configured address, and not from what the forge says: the token is sent there.
        """
        return f"{self.url}/{name}.git"

    @classmethod
    def parse(cls, url: str) -> ForgeAddress:
        """Check the address of a start page. Without TLS, only this machine is allowed.

        Raises:
            ValueError: it is unusable; the message does not repeat credentials.
        """
        return cls(_checked(url))


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError:
        parts, host = urlsplit(""), None
    if parts.username is not None or parts.password is not None:
        raise ValueError("The address of a forge has a user or a password in it. Leave both out.")
    if parts.scheme not in ("http", "https") or not host or not url.isprintable() or " " in url:
        raise ValueError(f"The address of a forge is not a URL: {url[:200]!r}. Write it like https://forge.example.")
    if parts.query or parts.fragment:
        raise ValueError(
            f"The address of a forge has a '?' or '#': {url[:200]!r}. Write it like https://forge.example."
        )
    if any(part in (".", "..") for part in parts.path.split("/")):
        raise ValueError(f"The address of a forge has '.' or '..' in its path: {url[:200]!r}. Write the path itself.")
    if parts.scheme == "http" and not is_loopback(host):
        raise ValueError(
            f"The address of a forge begins with http://, so others could read the token: {url[:200]!r}. Write https://."
        )
    return url.rstrip("/")
