"""What machines are told of this installation: its metrics, and anonymous counts.

metrics:
  listen: 127.0.0.1:9464
  token: env:MUSTER_METRICS_TOKEN
telemetry:
  enabled: true
  url: https://counts.example.org/muster
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from bot.config.types import Block, Url
from core.secret_references import Reference


def _private(value: str) -> str:
    """Require https, so that nobody on the network can read the counts. Loopback traffic stays on this machine."""
    parts = urlsplit(value)
    if parts.scheme != "https" and not _is_loopback(parts.hostname or ""):
        raise ValueError(f"found {value[:80]!r}; write https:// first. Plain http goes to this machine alone.")
    return value


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _endpoint(value: str) -> str:
    host, colon, port = value.rpartition(":")
    try:
        ip_address(host.strip("[]"))
        is_valid = bool(colon) and port.isascii() and port.isdecimal() and 1 <= int(port) <= 65_535
    except ValueError:
        is_valid = False
    if not is_valid:
        raise ValueError(f"found {value[:80]!r}; expected an IP address and a port, such as 127.0.0.1:9464.")
    return value


class MetricsBlock(Block):
    """Metrics for Prometheus on a TCP port (docs/how-to/monitor.md). The gateway's socket has them in any case."""

    listen: Annotated[str, AfterValidator(_endpoint)] | None = Field(
        default=None, description="The address and port to listen on, such as 127.0.0.1:9464. Default: none."
    )
    token: Reference | None = Field(
        default=None, description="The token that a scraper sends: env:NAME, file:PATH or keyring:NAME."
    )

    @model_validator(mode="after")
    def _is_guarded(self) -> Self:
        if self.listen is not None and self.token is None:
            raise ValueError("found listen without a token. Every user of the machine can connect: set a token.")
        return self

    @property
    def endpoint(self) -> tuple[str, int] | None:
        """The address and port, or None."""
        if self.listen is None:
            return None
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)


class Telemetry(Block):
    """Anonymous counts for a recipient of your choice. `muster telemetry preview` shows exactly what is sent."""

    # Not named `on`: YAML 1.1 reads that key as true.
    enabled: bool = Field(default=False, description="true: send counts once a day to `url`.")
    url: Annotated[Url, AfterValidator(_private)] | None = Field(
        default=None, description="The https address to send to."
    )

    @model_validator(mode="after")
    def _has_address(self) -> Self:
        if self.enabled and self.url is None:
            raise ValueError("found enabled: true without a url. Say where it is to be sent, or leave telemetry out.")
        return self
