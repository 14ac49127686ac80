"""What machines are told of this installation: its metrics, its traces, and anonymous counts.

metrics:
  listen: 127.0.0.1:9464
  token: env:MUSTER_METRICS_TOKEN
traces:
  endpoint: https://collector.example.org/v1/traces
  headers: {authorization: env:COLLECTOR_AUTHORIZATION}
  sample: 0.1
telemetry:
  enabled: true
  url: https://counts.example.org/muster
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Annotated, Final, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from bot.config.types import Block, Url
from core.network.loopback import is_loopback_address
from core.secret_references import Reference

#: Where a collector takes traces, if the address names no path (OTLP specification, "OTLP/HTTP Request").
TRACES_PATH: Final = "/v1/traces"
_OWN_HEADERS: Final = frozenset({"connection", "content-encoding", "content-length", "content-type", "host"})


def _private(value: str) -> str:
    """Require https, so that nobody on the network can read the counts. Loopback traffic stays on this machine."""
    parts = urlsplit(value)
    if parts.scheme != "https" and not is_loopback_address(parts.hostname or ""):
        raise ValueError(f"found {value[:80]!r}; write https:// first. Plain http goes to this machine alone.")
    return value


def _collector(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme != "https" and not is_loopback_address(parts.hostname or ""):
        raise ValueError(
            f"found {value[:80]!r}; write https://, or http:// with an address of this machine, such as "
            "http://127.0.0.1:4318."
        )
    return value if parts.path else f"{value}{TRACES_PATH}"


def _header(name: str) -> str:
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}", name) or name.lower() in _OWN_HEADERS:
        raise ValueError(
            f"found {name[:80]!r}; expected the name of a header such as Authorization. Muster itself sets "
            f"{', '.join(sorted(_OWN_HEADERS))}."
        )
    return name


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


class TracesBlock(Block):
    """Traces for an OpenTelemetry collector (docs/how-to/monitor.md). They have ids, names, numbers and outcomes only.

    They need an extra: `uv tool install 'muster-fleet[opentelemetry]'`.
    """

    endpoint: Annotated[Url, AfterValidator(_collector)] = Field(
        description=(
            "Where the collector takes OTLP over HTTP: https://, or http:// to this machine, such as "
            "http://127.0.0.1:4318. Without a path, /v1/traces is added."
        )
    )
    headers: dict[Annotated[str, AfterValidator(_header)], Reference] = Field(
        default={}, description="Headers with secrets, by name: env:NAME, file:PATH or keyring:NAME."
    )
    sample: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        default=1.0, description="The share of traces that are sent, from 0 to 1. Of a trace, all or nothing is sent."
    )


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
