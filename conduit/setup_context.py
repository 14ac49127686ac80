"""What the steps of one provisioning have in common: what is wanted, and what was done so far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from conduit.account_registration import Admission
from conduit.homeserver_api import Homeserver
from conduit.setup_record import RecordFolder


@dataclass(frozen=True, kw_only=True, slots=True)
class SetupOptions:
    """What was asked for."""

    operator: str
    bot: str
    room_name: str
    encrypted: bool
    connector: str
    admission: Admission | None
    """What lets us make users; None: there are both."""
    operator_password: str | None = None
    """Of a user that is there, or to be given to a new one; None: the kept one, or a new one."""
    bot_password: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SetupContext:
    """One run, as its steps see it."""

    wanted: SetupOptions
    homeserver: Homeserver
    kept: RecordFolder
    say: Callable[[str], None]
    changed: list[str] = field(default_factory=list)
    """What had to be done, in words."""
