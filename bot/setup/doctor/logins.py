"""The logins of connectors: whether servers accept their tokens, and whether their device keys exist.

The checks change nothing: they neither log in nor create a device. They never show a server's text, which could repeat
a token.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final, cast
from urllib.parse import urlsplit

from bot.config.loader import Check
from bot.config.paths import Paths
from bot.setup.doctor.finding import PATIENCE, DoctorFinding
from bot.text.markdown import one_line
from connectors.discord.settings import DiscordSettings
from connectors.matrix.settings import MatrixSettings
from core.redaction import SecretMasker
from core.secret_references import Reference, Unresolved

_MATRIX: Final = "/_matrix/client/v3/account/whoami"
_DISCORD: Final = "/users/@me"
_COSTS: Final = "This connector stays down until it is fixed; the others work."


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: Mapping[str, Any]


class _NoAnswer(Exception):
    """The server could not be asked; the message says why."""


def examine(checked: Check, paths: Paths, environ: Mapping[str, str]) -> Iterator[DoctorFinding]:
    for connector in checked.settings.connectors if checked.settings else ():
        try:
            if connector.kind == "matrix":
                yield from _matrix(connector.name, cast("MatrixSettings", connector.settings), paths, environ)
            elif connector.kind == "discord":
                yield from _discord(connector.name, cast("DiscordSettings", connector.settings), environ)
        except Unresolved:
            continue  # that is said of the secret
        except _NoAnswer as error:
            found = f"could not check whether the log-in is still valid: {error}"
            way = "Run muster doctor again once the server answers."
            yield DoctorFinding(name=_title(connector.name), state="unknown", found=found, way=way)


def _matrix(name: str, settings: MatrixSettings, paths: Paths, environ: Mapping[str, str]) -> Iterator[DoctorFinding]:
    from connectors.matrix.homeserver_client import LOGGED_OUT
    from connectors.matrix.login import how_to_log_in_again, kept

    folder = paths.connector_folder(name)
    earlier = kept(folder, settings)
    if isinstance(settings.access_token, Reference):
        token: str | None = settings.access_token.resolve(environ)
    else:
        token = earlier.access_token if earlier is not None else None
    if token is None:
        return  # it logs in with the password when Muster starts
    answer = _ask(settings.homeserver, _MATRIX, f"Bearer {token}")
    code = answer.body.get("errcode")
    if code in LOGGED_OUT:
        found = f"{settings.homeserver} does not know the log-in of {settings.user} any more ({code})"
        way = how_to_log_in_again(settings, folder)
        yield DoctorFinding(name=_title(name), state="wrong", found=found, costs=_COSTS, way=way)
        return
    user = answer.body.get("user_id")
    if answer.status != 200 or not isinstance(user, str):
        raise _NoAnswer(f"{settings.homeserver} answers {answer.status}, and does not say who the bot is.")
    if user != settings.user:
        other = one_line(SecretMasker(known=frozenset({token}))(user), 260)
        found = f"the log-in belongs to {other}, and muster.yaml says {settings.user}"
        way = "Correct the one that is wrong."
        yield DoctorFinding(name=_title(name), state="wrong", found=found, costs=_COSTS, way=way)
        return
    yield DoctorFinding(
        name=_title(name), state="ok", found=f"{settings.homeserver} accepts the log-in of {settings.user}"
    )
    device = answer.body.get("device_id")
    if settings.encryption != "off" and isinstance(device, str):
        yield from _keys(name, settings, paths, device)


def _keys(name: str, settings: MatrixSettings, paths: Paths, device: str) -> Iterator[DoctorFinding]:
    from connectors.matrix.device_key_startup import gone
    from connectors.matrix.login import how_to_make_a_new_device

    folder = paths.connector_folder(name)
    lost = gone(folder, paths.keys_folder(name), device)
    if lost is None:
        return
    yield DoctorFinding(
        name=f"connector {name} keys",
        state="wrong",
        found=f"the keys of the bot's device are lost: {lost} is gone",
        costs="Muster cannot read messages in encrypted rooms, and the connector stays down.",
        way=how_to_make_a_new_device(settings, folder),
    )


def _discord(name: str, settings: DiscordSettings, environ: Mapping[str, str]) -> Iterator[DoctorFinding]:
    from connectors.discord.gateway_session import bad_token
    from connectors.discord.rest_client import AGENT

    answer = _ask(settings.api, _DISCORD, f"Bot {settings.token.resolve(environ)}", agent=AGENT)
    if answer.status == 401:
        found = "Discord does not take the bot's token (401)"
        way = bad_token(str(settings.token))
        yield DoctorFinding(name=_title(name), state="wrong", found=found, costs=_COSTS, way=way)
        return
    if answer.status != 200:
        raise _NoAnswer(f"{settings.api} answers {answer.status}, and does not say who the bot is.")
    yield DoctorFinding(name=_title(name), state="ok", found="Discord accepts the bot's token")


def _ask(address: str, path: str, credential: str, *, agent: str = "muster") -> _Answer:
    """Send a request with the credential and return the answer.

    Raises:
        _NoAnswer: there is none.
    """
    parts = urlsplit(address)
    made = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    try:
        with closing(made(parts.hostname or "", parts.port, timeout=PATIENCE)) as connection:
            headers = {"Authorization": credential, "User-Agent": agent}
            connection.request("GET", f"{parts.path.rstrip('/')}{path}", headers=headers)
            answer = connection.getresponse()
            status, body = answer.status, answer.read(100_000)
    except ValueError:
        # The error quotes the header with the secret.
        raise _NoAnswer("the secret holds characters that no token has.") from None
    except (OSError, http.client.HTTPException) as error:
        raise _NoAnswer(f"{address} does not answer ({type(error).__name__}).") from None
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    return _Answer(status, found if isinstance(found, dict) else {})


def _title(name: str) -> str:
    return f"connector {name} log-in"
