"""The block `web.push` of muster.yaml: pushes to browsers that are not open."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from bot.config.types import Block
from core.network.loopback import is_loopback_address

#: The push services of Chrome, Firefox, Safari and Edge.
SERVICES: Final = (
    "fcm.googleapis.com",
    "updates.push.services.mozilla.com",
    "web.push.apple.com",
    "*.notify.windows.com",
)
_HOST: Final = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*"
_NAME: Final = re.compile(rf"(?:\*\.)?{_HOST}")
_ORIGIN: Final = re.compile(rf"(?P<scheme>https?)://(?P<host>{_HOST})(?::[0-9]{{1,5}})?")
_CONTACT: Final = re.compile(r"(?:mailto:[^\s@,;]+@|https://)[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+")


def _service(value: str) -> str:
    if len(value) <= 253 and _NAME.fullmatch(value) and ("." in value.removeprefix("*.")):
        return value
    found = _ORIGIN.fullmatch(value) if len(value) <= 253 else None
    if found is None or (found["scheme"] == "http" and not is_loopback_address(found["host"])):
        raise ValueError(
            f"found {value[:80]!r}; expected a host such as {SERVICES[0]}, *. and a domain for all hosts below it, or "
            "an https address with a port."
        )
    return value


def _contact(value: str) -> str:
    if not re.fullmatch(
        r"mailto:[^\s@,;]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+|https://[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+", value
    ):
        raise ValueError(f"found {value[:80]!r}; expected mailto:ana@example.org, or https:// and a host.")
    return value


class WebPushBlock(Block):
    """Pushes to browsers that are not open, about requests that wait. Without this block there are none."""

    services: tuple[Annotated[str, AfterValidator(_service)], ...] = Field(
        default=SERVICES,
        description=(
            "The push services that Muster may contact: hosts, *. and a domain for all hosts below it, or an address "
            "with a port. A browser with another one is refused."
        ),
    )
    contact: Annotated[str, AfterValidator(_contact)] | None = Field(
        default=None,
        description="Where push services reach you, such as mailto:ana@example.org. Default: the host of `web.url`.",
    )
