"""Logging in, once, and keeping the log-in.

The device id matters more than the token: a homeserver recognises the keys of messages within one device.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from connectors.contract.connector_protocol import NeedsPerson, NotReady
from connectors.matrix.homeserver_client import (
    LOGGED_OUT,
    HomeserverClient,
    HomeserverRequestError,
    HomeserverUnreachable,
    MatrixRefusal,
)
from connectors.matrix.settings import MatrixSettings
from core import durable_files
from core.errors import MusterError
from core.secret_references import Reference

FILE = "session.json"
#: What the names of devices begin with that are none.
_NO_DEVICE = "token-"


@dataclass(frozen=True, kw_only=True, slots=True)
class MatrixLogin:
    """A log-in on one device."""

    homeserver: str
    user: str
    device: str
    access_token: str | None
    """None when the token is a reference in ``muster.yaml``: it is not written down a second time."""


def kept(folder: Path, settings: MatrixSettings) -> MatrixLogin | None:
    """Return the log-in of an earlier run, if it is of the same user on the same homeserver."""
    try:
        found: Any = json.loads((folder / FILE).read_text())
        session = MatrixLogin(**found)
    except (OSError, ValueError, TypeError):
        return None
    same = (session.homeserver, session.user) == (settings.homeserver, settings.user)
    return session if same else None


async def log_in(wire: HomeserverClient, settings: MatrixSettings, folder: Path) -> MatrixLogin:
    """Find out who we are, after logging in if need be; the wire carries the token from then on.

    Raises:
        NotReady: the homeserver cannot say now.
        NeedsPerson: it does not know us.
    """
    try:
        await _check_homeserver(wire)
        if settings.access_token is not None:
            wire.token = await _secret(settings.access_token)
            session = await _whoami(wire, settings, again="Put a valid one where access_token points, then restart.")
        else:
            session = await _with_password(wire, settings, folder)
    except MatrixRefusal as error:
        raise NotReady(f"The homeserver {settings.homeserver} does not let the bot in now: {error}.") from error
    except HomeserverRequestError as error:
        raise NotReady(f"The homeserver {settings.homeserver} cannot be reached: {error}.") from error
    await asyncio.to_thread(_keep, folder, session)
    return session


def how_to_log_in_again(settings: MatrixSettings, folder: Path) -> str:
    """Return what a person does when the homeserver has ended the log-in."""
    if settings.access_token is not None:
        return (
            f"The access token of {settings.user} is no longer valid. Log in again (in Element: Settings, "
            f"Help & About, Access Token), put the new token where {settings.access_token} points, then restart Muster."
        )
    return (
        f"The log-in of {settings.user} was ended on the homeserver. To log in again with the password, delete "
        f"{folder / FILE}, then restart Muster."
    )


def is_no_device(device: str) -> bool:
    """Return whether this only stands for a token that belongs to no device."""
    return device.startswith(_NO_DEVICE)


def how_to_make_a_new_device(settings: MatrixSettings, folder: Path) -> str:
    """Return what a person does to have Muster be another device."""
    if settings.access_token is not None:
        return (
            f"To make a new device, log in again as {settings.user} (in Element, in a private window: Settings, "
            "Help & About, Access Token; close it without logging out), put the new token where "
            f"{settings.access_token} points, then restart Muster."
        )
    other = ", write another name at `device` in muster.yaml" if settings.device is not None else ""
    return f"To make a new device, delete {folder / FILE}{other}, then restart Muster."


async def _check_homeserver(wire: HomeserverClient) -> None:
    try:
        answer = await wire.call("GET", "versions", base="/_matrix/client")
    except MatrixRefusal as error:
        if error.passes:
            raise
        raise HomeserverUnreachable(f"it does not say which versions of Matrix it speaks: {error}") from error
    if not isinstance(answer.get("versions"), list):
        raise HomeserverUnreachable("what answers there is not a Matrix homeserver; check the address in muster.yaml")


async def _with_password(wire: HomeserverClient, settings: MatrixSettings, folder: Path) -> MatrixLogin:
    earlier = await asyncio.to_thread(kept, folder, settings)
    if earlier is not None and earlier.access_token is not None:
        wire.token = earlier.access_token
        return await _whoami(wire, settings, keep=True, again=f"Delete {folder / FILE} to log in with the password.")
    assert settings.password is not None
    password = await _secret(settings.password)
    wire.token = None
    body = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": settings.user},
        "password": password,
        "initial_device_display_name": "Muster",
    }
    if settings.device is not None:
        body["device_id"] = settings.device
    try:
        answer = await wire.call("POST", "login", body=body)
    except MatrixRefusal as error:
        if error.passes and error.code not in LOGGED_OUT:
            raise
        raise NeedsPerson(
            f"The homeserver does not take the password of {settings.user}: {error}. Correct what {settings.password} "
            "holds, or use an access_token."
        ) from error
    user, device, token = answer.get("user_id"), answer.get("device_id"), answer.get("access_token")
    if not isinstance(device, str) or not isinstance(token, str):
        raise HomeserverUnreachable("it answered a log-in without a token")
    _same_user(user, settings)
    wire.token = token
    return MatrixLogin(homeserver=settings.homeserver, user=settings.user, device=device, access_token=token)


async def _whoami(wire: HomeserverClient, settings: MatrixSettings, *, again: str, keep: bool = False) -> MatrixLogin:
    try:
        answer = await wire.call("GET", "account", "whoami")
    except MatrixRefusal as error:
        if error.code not in LOGGED_OUT:
            raise
        raise NeedsPerson(f"The homeserver does not know the token of {settings.user}: {error}. {again}") from error
    _same_user(answer.get("user_id"), settings)
    assert wire.token is not None
    device = answer.get("device_id")
    if not isinstance(device, str):
        # Tokens of application services have no device; their keys belong to the token.
        device = _NO_DEVICE + hashlib.sha256(wire.token.encode()).hexdigest()[:16]
    return MatrixLogin(
        homeserver=settings.homeserver,
        user=settings.user,
        device=device,
        access_token=wire.token if keep else None,
    )


async def _secret(reference: Reference) -> str:
    try:
        return await asyncio.to_thread(reference.resolve)
    except MusterError as error:
        raise NeedsPerson(str(error)) from error


def _same_user(user: object, settings: MatrixSettings) -> None:
    if user != settings.user:
        raise NeedsPerson(
            f"The log-in belongs to {user}, but muster.yaml says {settings.user}. Correct the one that is wrong."
        )


def _keep(folder: Path, session: MatrixLogin) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    durable_files.write(folder / FILE, json.dumps(asdict(session)))
