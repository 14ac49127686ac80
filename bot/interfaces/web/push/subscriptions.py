"""Where a browser's push service takes pushes, which services are allowed, and who is due. Pure.

An address comes from a browser, and Muster sends requests there. So its form is narrow, and its host is on a list.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bot.text.errors import UserError

#: Seconds between two pushes to one person.
EVERY_S: Final = 60.0
#: Seconds by which a request may have been asked before it was known here.
_LATE_S: Final = 30.0
_LONGEST: Final = 1_500
#: Narrower than what URLs may be, so that every reader of one finds the same host in it.
_ENDPOINT: Final = re.compile(
    r"(?P<origin>(?P<scheme>https?)://(?P<host>[a-z0-9.-]{1,253})(?P<port>:[0-9]{1,5})?)/[A-Za-z0-9._~:/?&=%+-]*"
)


class PushRefused(UserError):
    """This browser's push service cannot be used."""

    code = "web.push"


@dataclass(frozen=True, slots=True, kw_only=True)
class PushSubscription:
    """Where a push service takes pushes for one browser, and the browser's keys."""

    endpoint: str
    """It is a secret: whoever has it can send there."""
    p256dh: str
    auth: str

    @property
    def origin(self) -> str:
        """The push service without its usual port. Unlike the whole address, it may be logged."""
        found = _ENDPOINT.fullmatch(self.endpoint)
        if found is None:
            return ""
        return found["origin"].removesuffix(":443") if found["scheme"] == "https" else found["origin"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscribedBrowser:
    """A browser that wants pushes."""

    session: str
    identity: str
    subscription: PushSubscription
    at: float
    """When it subscribed, or got its last push."""


@dataclass(frozen=True, slots=True)
class DuePushes:
    """Whom to push now, and when somebody is due at the earliest otherwise."""

    browsers: tuple[SubscribedBrowser, ...]
    next_at: float | None


def is_allowed(endpoint: str, services: Collection[str]) -> bool:
    """Return whether Muster may send requests to an address.

    Args:
        endpoint: the address.
        services: `web.push.services` of muster.yaml.
    """
    found = _ENDPOINT.fullmatch(endpoint) if len(endpoint) <= _LONGEST else None
    if found is None:
        return False
    if found["origin"] in services:
        return True
    if found["scheme"] != "https" or found["port"] not in (None, ":443"):
        return False
    host = found["host"]
    return any(host == each or (each.startswith("*.") and host.endswith(each[1:])) for each in services)


def subscription_of(sent: Mapping[str, str], services: Collection[str]) -> PushSubscription:
    """Return the subscription that a browser sent.

    Raises:
        PushRefused: its push service is not allowed, or its keys are none.
    """
    endpoint, p256dh, auth = (sent.get(name, "") for name in ("endpoint", "p256dh", "auth"))
    if not is_allowed(endpoint, services):
        host = re.sub(r"[^a-z0-9.:-]", "", endpoint.partition("://")[2].partition("/")[0].lower())[:80]
        raise PushRefused(
            f"The push service of this browser, {host or 'which it does not name'}, is not in web.push.services of "
            "muster.yaml. An admin of the machine can add it there."
        )
    point = _decoded(p256dh)
    if len(point) != 65 or point[0] != 4 or len(_decoded(auth)) != 16:
        raise PushRefused("The keys of this browser's push service cannot be read. Turn the pushes on again.")
    return PushSubscription(endpoint=endpoint, p256dh=p256dh, auth=auth)


def due(
    browsers: Sequence[SubscribedBrowser],
    waiting: Mapping[str, float],
    told: Mapping[str, Collection[str]],
    pushed_at: Mapping[str, float],
    now: float,
    *,
    every_s: float = EVERY_S,
) -> DuePushes:
    """Return which browsers get a push now.

    Args:
        browsers: those that want pushes.
        waiting: when what waits was asked, by its id.
        told: by session, the ids that waited at its last push.
        pushed_at: by person, the time of the last push.
        now: seconds since the epoch.
        every_s: seconds between two pushes to one person.
    """
    found: list[SubscribedBrowser] = []
    later: list[float] = []
    for each in browsers:
        known = told.get(each.session, ())
        if not any(id_ not in known and asked_at > each.at - _LATE_S for id_, asked_at in waiting.items()):
            continue
        at = pushed_at.get(each.identity, -every_s) + every_s
        if at <= now:
            found.append(each)
        else:
            later.append(at)
    return DuePushes(tuple(found), min(later, default=None))


def _decoded(text: str) -> bytes:
    try:
        return (
            base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True) if len(text) < 200 else b""
        )
    except (binascii.Error, ValueError):
        return b""
