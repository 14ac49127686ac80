"""An agent's way out: what is said of an agent to whoever opens one, and what comes back.

Nothing here knows who that is (`Assembly.open_way`). Inside a sandbox without network a relay
(`fleet.sandbox.egress_relay`) listens on one loopback port and carries bytes to the way's socket; without a sandbox the
way is an address on the host's loopback, which holds only whoever uses it. Either leads to the models below
``/anthropic`` and ``/openai``, and is an HTTP proxy besides.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

from budget.amounts import CountedUnit
from budget.limits.scopes import Policy
from fleet.runtimes.declaration import PLACEHOLDER

#: Where the relay listens, in the network of the sandbox, which is the sandbox's alone.
PORT: Final = 47801
INSIDE: Final = f"http://127.0.0.1:{PORT}"
#: What is below a way's address for each provider, as its own clients want their base URL.
BASES: Final[Mapping[str, str]] = {"anthropic": "/anthropic", "openai": "/openai/v1"}
#: In an agent's folder; outside of what it sees.
TURN_FILE: Final = "turn.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Allowance:
    """What one agent may use."""

    scope: str
    """``launch:ID``."""
    amount: float
    unit: CountedUnit = "tokens"
    window: str | None = None
    """None: for as long as the launch lives."""
    policy: Policy = "cutoff"
    may_raise: bool = False
    """It may be higher than what would hold without it, as an admin said."""
    set_at: float = 0.0
    """When the launch said it, seconds since the epoch; 0: not known, of a launch by an older version."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WayAsked:
    """An agent that is about to be started and wants a way out."""

    agent: str
    launch_id: str
    role: str
    profile: str
    """Its sandbox profile."""
    profiles: tuple[str, ...]
    """That profile and those that it extends, the most specific first."""
    routes: tuple[str, ...]
    """Hosts that the profile lets it reach besides models."""
    accounts: Mapping[str, str]
    """The account that it uses of each provider, by its name."""
    listener: Literal["unix", "port"]
    """A socket for its sandbox; or, without one, an address on the host's loopback."""
    control_socket: str
    """Its agent host's."""
    marker: str
    """The word in the environment of each of its processes."""
    turn_file: str
    """Where its agent host writes which turn it is in: a JSON object with session, turn and task, each a text or
    null. turn is null between turns. It may not be there."""
    allowances: tuple[Allowance, ...] = ()
    """Those of this launch alone; what the roster and the profiles say is not among them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EgressGrant:
    """A way out, open from now on."""

    socket: Path | None = None
    """Of a sandbox: the one socket in a folder that is this agent's alone. The folder is shown inside, so that a socket
    made anew there is found."""
    url: str | None = None
    """Without a sandbox: the address up to the provider's name."""
    ca_file: Path | None = None
    """The certificate of an authority that the sandbox is to trust besides those that it trusts anyway."""
    bundle_file: Path | None = None
    """The same together with all that the host trusts, for clients that take one file instead of their own."""


OpenWay: TypeAlias = Callable[[WayAsked], Awaitable[EgressGrant]]
"""Opens a way, or says again what is open; raises FleetError when there can be none, with what to do."""


def base_url(way: EgressGrant, provider: str) -> str:
    """Return the base URL of a provider's API by this way, as the provider's own clients want it."""
    return f"{INSIDE if way.socket is not None else way.url}{BASES[provider]}"


def placeholder(provider: str, *, oauth: bool) -> str:
    """Stands where a client wants a key, and opens nothing.

    Args:
        provider: whose.
        oauth: the account holds a token of a subscription, and the client must behave so: Claude Code and others tell
            the two apart by the first letters.
    """
    if provider == "anthropic":
        return f"sk-ant-{'oat01' if oauth else 'api03'}-{PLACEHOLDER}"
    return f"sk-{PLACEHOLDER}"
