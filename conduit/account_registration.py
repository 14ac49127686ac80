"""Users on a homeserver: made with a registration token or a shared secret, or logged in as.

Two ways in. A registration token goes through user-interactive authentication (Client-Server API v1.11, "POST
/register" and "Token-authenticated registration"), as Conduit and its successors have it. Synapse's shared secret signs
a request to its own registration endpoint (Synapse documentation, "Shared-Secret Registration").
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from conduit.errors import ProvisionError
from conduit.homeserver_api import Homeserver, HomeserverRefusal, Json, shown, text_of

_TOKEN = "m.login.registration_token"  # noqa: S105  the name of a stage
_DUMMY = "m.login.dummy"

#: What a token that is over is told with.
LOGGED_OUT = frozenset({"M_UNKNOWN_TOKEN", "M_MISSING_TOKEN", "M_USER_DEACTIVATED"})


@dataclass(frozen=True, slots=True)
class Admission:
    """What lets us make users. Never shown."""

    kind: Literal["registration token", "shared secret"]
    secret: str

    def __repr__(self) -> str:
        return f"Admission({self.kind})"


@dataclass(frozen=True, kw_only=True, slots=True)
class HomeserverSession:
    """A log-in on one device."""

    user: str
    device: str
    token: str

    def __repr__(self) -> str:
        return f"Session({self.user}, {self.device})"


class NameTaken(ProvisionError):
    """There is a user of that name already."""


class WrongPassword(ProvisionError):
    """The homeserver does not take the password."""


async def register(
    homeserver: Homeserver, admission: Admission, *, name: str, password: str, device: str, admin: bool
) -> HomeserverSession:
    """Make a user and log in as it.

    Args:
        homeserver: where.
        admission: what lets us.
        name: the part of the user's id before the colon.
        password: for it.
        device: the id of the device to log in on, where the homeserver lets one choose.
        admin: whether it administers the homeserver; only Synapse can be told, Conduit makes the first user admin.

    Raises:
        NameTaken: there is one of that name.
        ProvisionError: it could not be made.
    """
    try:
        if admission.kind == "shared secret":
            answer = await _by_shared_secret(homeserver, admission.secret, name, password, device, admin)
        else:
            answer = await _by_token(homeserver, admission.secret, name, password, device)
    except HomeserverRefusal as error:
        if error.code == "M_USER_IN_USE":
            raise NameTaken(f"There is a user {name} on {homeserver.url} already.") from None
        raise _not_registered(homeserver, name, error) from None
    if "access_token" not in answer:
        # Some are set to let no one in while registering.
        return await log_in(homeserver, name=name, password=password, device=device)
    return _session(answer, name)


async def log_in(homeserver: Homeserver, *, name: str, password: str, device: str) -> HomeserverSession:
    """Log in on a device, whose older token ends by that.

    Raises:
        WrongPassword: the password is not taken.
        ProvisionError: it could not be done.
    """
    body: Json = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": name},
        "password": password,
        "device_id": device,
        "initial_device_display_name": "Muster",
    }
    try:
        return _session(await homeserver.call("POST", "login", body=body), name)
    except HomeserverRefusal as error:
        if error.code in ("M_FORBIDDEN", "M_USER_DEACTIVATED", "M_INVALID_USERNAME"):
            raise WrongPassword(f"The homeserver does not take the password of {name}: {error}.") from None
        raise ProvisionError(f"The homeserver {homeserver.url} does not let {name} log in: {error}.") from None


async def who(homeserver: Homeserver, token: str) -> HomeserverSession | None:
    """Return whose log-in this is; None when it is over."""
    try:
        answer = await homeserver.call("GET", "account", "whoami", token=token)
    except HomeserverRefusal as error:
        if error.code in LOGGED_OUT:
            return None
        raise
    device = answer.get("device_id")
    return HomeserverSession(
        user=text_of(answer, "user_id"), device=device if isinstance(device, str) else "", token=token
    )


async def log_out(homeserver: Homeserver, session: HomeserverSession) -> None:
    """End a log-in; one that is over stays so."""
    try:
        await homeserver.call("POST", "logout", token=session.token, body={})
    except HomeserverRefusal as error:
        if error.code not in LOGGED_OUT:
            raise


async def _by_token(homeserver: Homeserver, secret: str, name: str, password: str, device: str) -> Json:
    body: Json = {
        "username": name,
        "password": password,
        "device_id": device,
        "initial_device_display_name": "Muster",
        "inhibit_login": False,
    }
    done: set[str] = set()
    while True:
        try:
            return await homeserver.call("POST", "register", body=body)
        except HomeserverRefusal as error:
            if error.status != 401 or "flows" not in error.answer:
                raise
            sent = body.get("auth", {}).get("type")
            if sent == _TOKEN and sent not in _completed(error.answer):
                raise ProvisionError(
                    f"The homeserver {homeserver.url} does not take the registration token: {error}. Compare it with "
                    "CONDUIT_REGISTRATION_TOKEN in conduit.env, or registration_token in conduit.toml (a change there "
                    "needs a restart), then run the same command again."
                ) from None
            stage = _next_stage(homeserver, error.answer, done)
            done.add(stage)
            if stage == _DUMMY and _TOKEN not in done:
                homeserver.say("This homeserver registers anybody, without a token: set registration_token.")
            auth: Json = {"type": stage, "session": text_of(error.answer, "session")}
            body["auth"] = auth | ({"token": secret} if stage == _TOKEN else {})


def _next_stage(homeserver: Homeserver, answer: Json, tried: set[str]) -> str:
    found = [flow.get("stages") for flow in _list(answer.get("flows")) if isinstance(flow, dict)]
    flows = [[stage for stage in _list(stages) if isinstance(stage, str)] for stages in found]
    completed = _completed(answer)
    # Where registration is open to everybody, the token is still what we were given to use.
    for stages in sorted(flows, key=lambda stages: _TOKEN not in stages):
        if set(stages) <= {_TOKEN, _DUMMY}:
            for stage in stages:
                if stage not in completed and stage not in tried:
                    return stage
    wanted = " or ".join(" and ".join(stages) for stages in flows if stages) or "nothing that can be done"
    raise ProvisionError(
        f"The homeserver {homeserver.url} wants {shown(wanted)} of who registers, and only a registration token can be "
        "given here. Set registration_token in conduit.toml (Synapse: registration_requires_token, or use "
        "--shared-secret), or make both users by hand and give --operator-password and --bot-password."
    )


def _completed(answer: Json) -> set[str]:
    return {stage for stage in _list(answer.get("completed")) if isinstance(stage, str)}


def _list(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else ()


async def _by_shared_secret(
    homeserver: Homeserver, secret: str, name: str, password: str, device: str, admin: bool
) -> Json:
    base = "/_synapse/admin/v1"
    nonce = text_of(await homeserver.call("GET", "register", base=base), "nonce")
    parts = (nonce, name, password, "admin" if admin else "notadmin")
    mac = hmac.new(secret.encode(), "\0".join(parts).encode(), hashlib.sha1).hexdigest()
    body: Json = {
        "nonce": nonce,
        "username": name,
        "password": password,
        "admin": admin,
        "mac": mac,
        "device_id": device,
        "initial_device_display_name": "Muster",
    }
    return await homeserver.call("POST", "register", base=base, body=body)


def _not_registered(homeserver: Homeserver, name: str, error: HomeserverRefusal) -> ProvisionError:
    if error.code == "M_UNRECOGNIZED" or error.status == 404:
        return ProvisionError(
            f"The homeserver {homeserver.url} knows no registration by shared secret: {error}. That is Synapse's "
            "alone; with Conduit and its successors use --registration-token."
        )
    if error.code in ("M_INVALID_USERNAME", "M_EXCLUSIVE"):
        return ProvisionError(f"The homeserver {homeserver.url} takes no user called {name}: {error}. Choose another.")
    if "mac" in str(error).lower():
        return ProvisionError(
            f"The homeserver {homeserver.url} does not take the shared secret: {error}. Compare it with "
            "registration_shared_secret in homeserver.yaml, then run the same command again."
        )
    return ProvisionError(
        f"The homeserver {homeserver.url} does not register {name}: {error}. See that allow_registration is true in "
        "conduit.toml (it can be false again afterwards) and that it was restarted since, then run the same command "
        "again."
    )


def _session(answer: Json, name: str) -> HomeserverSession:
    user = text_of(answer, "user_id")
    if not user.startswith(f"@{name}:"):
        raise ProvisionError(f"The homeserver says that {name} is {shown(user)}. That is a fault of it, or of a proxy.")
    return HomeserverSession(user=user, device=text_of(answer, "device_id"), token=text_of(answer, "access_token"))
