"""The block `web` of muster.yaml: the dashboard for browsers."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from bot.config.surfaces.web_push import WebPushBlock
from bot.config.types import Block, Duration
from core.network.loopback import is_loopback

#: Where the dashboard listens unless muster.yaml says otherwise.
LISTEN = "127.0.0.1:8475"


def parse_listen(value: str) -> tuple[str, int]:
    """Return host and port of a loopback address, such as ``127.0.0.1:8475`` or ``[::1]:8475``.

    Raises:
        ValueError: it is none.
    """
    found = re.fullmatch(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<four>[0-9.]+|localhost)):(?P<port>[0-9]{1,5})", value)
    if found is None or int(found["port"]) > 65_535:
        raise ValueError(f"found {value[:80]!r}; expected an address and a port, such as {LISTEN}.")
    host = "127.0.0.1" if found["four"] == "localhost" else found["six"] or found["four"]
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        raise ValueError(f"found {value[:80]!r}; expected an address and a port, such as {LISTEN}.") from None
    if not loopback:
        raise ValueError(
            f"found {value[:80]!r}; the dashboard listens on this machine only. Put a reverse proxy with TLS in front "
            f"of {LISTEN}, and give its address as web.url."
        )
    return host, int(found["port"])


def _listen(value: str) -> str:
    parse_listen(value)
    return value


def _origin(value: str) -> str:
    parts = urlsplit(value)
    plain = parts.path in ("", "/") and not parts.query and not parts.fragment and "@" not in parts.netloc
    try:
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and plain and parts.port != 0
    except ValueError:
        valid = False
    if not valid or not value.isascii() or not value.isprintable():
        raise ValueError(
            f"found {value[:80]!r}; expected an address without a path, such as https://muster.example.org."
        )
    return f"{parts.scheme}://{parts.netloc.lower()}"


class WebBlock(Block):
    """The dashboard for browsers. Without this block there is none; `web: {}` takes the defaults."""

    listen: Annotated[str, AfterValidator(_listen)] = Field(
        default=LISTEN, description="The address and port on this machine. A reverse proxy brings it to others."
    )
    url: Annotated[str, AfterValidator(_origin)] | None = Field(
        default=None,
        description=(
            "The address that browsers use, such as https://muster.example.org. Others are refused. Default: the "
            "address of `listen`."
        ),
    )
    behind_proxy: bool = Field(
        default=False,
        description="true: a reverse proxy is in front, and the last address in X-Forwarded-For is the browser's.",
    )
    idle: Duration = Field(default=12 * 3600.0, description="How long a browser stays logged in without being used.")
    longest: Duration = Field(
        default=7 * 86_400.0, description="How long a browser stays logged in at most. Then it needs a new code."
    )
    push: WebPushBlock | None = Field(
        default=None,
        description=(
            "Pushes to browsers that are not open; `push: {}` takes the defaults. They need "
            "`uv tool install 'muster-fleet[webpush]'`."
        ),
    )

    @model_validator(mode="after")
    def _is_safe(self) -> Self:
        if self.url is not None and self.url.startswith("http://"):
            host = urlsplit(self.url).hostname or ""
            if not is_loopback(host):
                raise ValueError(
                    f"found url: {self.url}; only this machine is reached without TLS. Write https:// there, and have "
                    "the reverse proxy do TLS."
                )
        if self.url is not None and self.url.startswith("https://") and not self.behind_proxy:
            raise ValueError(
                "found an https url without `behind_proxy: true`. The dashboard itself does no TLS: say so if a proxy "
                "does it."
            )
        return self
