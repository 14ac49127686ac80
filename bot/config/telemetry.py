"""Telemetry settings of muster.yaml: whether this installation sends anything, and where.

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
