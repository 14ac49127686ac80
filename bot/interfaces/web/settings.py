"""What the dashboard's server needs to know of its addresses, from `web` in muster.yaml. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from bot.config.surfaces.web import WebBlock, parse_listen

#: Seconds for a browser to take one change; a slower one is disconnected.
SEND_LIMIT_S: Final = 20.0
#: Seconds between two looks whether an open page may still be shown.
CHECK_EVERY_S: Final = 2.0
#: Maximum number of streams of one session, and of all.
STREAMS_OF_SESSION: Final = 4
STREAMS: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class WebAddresses:
    """Where the server listens, and which addresses of browsers it accepts."""

    host: str
    port: int
    hosts: frozenset[str]
    """The accepted values of the header Host."""
    origins: frozenset[str]
    """The accepted values of the header Origin."""
    url: str
    """The address to show to people."""
    secure: bool
    """Whether browsers use TLS."""
    behind_proxy: bool

    @property
    def session_cookie(self) -> str:
        return "__Host-muster-session" if self.secure else "muster-session"

    @property
    def login_cookie(self) -> str:
        return "__Host-muster-login" if self.secure else "muster-login"


def addresses(block: WebBlock, port: int | None = None) -> WebAddresses:
    """Return the addresses of a configuration.

    Args:
        block: the configuration.
        port: the port on which the server really listens, if `listen` has port 0.
    """
    host, configured = parse_listen(block.listen)
    port = configured if port is None else port
    if block.url is not None:
        parts = urlsplit(block.url)
        hosts, origins, url = {parts.netloc}, {block.url}, block.url
    else:
        shown = f"[{host}]" if ":" in host else host
        hosts = {f"{name}:{port}" for name in (shown, "localhost")}
        origins = {f"http://{name}" for name in hosts}
        url = f"http://{shown}:{port}"
    return WebAddresses(
        host=host,
        port=port,
        hosts=frozenset(hosts),
        origins=frozenset(origins),
        url=url,
        secure=url.startswith("https://"),
        behind_proxy=block.behind_proxy,
    )
