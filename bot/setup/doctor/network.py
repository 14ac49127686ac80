"""The network: homeservers, and their clocks."""

from __future__ import annotations

import email.utils
import http.client
import json
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Final
from urllib.parse import urlsplit

from bot.config.loader import Check
from bot.setup.doctor.finding import PATIENCE, DoctorFinding

#: Seconds by which the local clock may differ from a server's.
CLOCK_SKEW: Final = 60.0


def homeservers(checked: Check, clock: Callable[[], float]) -> Iterator[DoctorFinding]:
    for connector in checked.settings.connectors if checked.settings else ():
        address = getattr(connector.settings, "homeserver", None)
        if isinstance(address, str):
            finding, skew = homeserver(connector.name, address, clock)
            yield finding
            if skew is not None:
                yield clock_against(address, skew)


def homeserver(name: str, address: str, clock: Callable[[], float] = time.time) -> tuple[DoctorFinding, float | None]:
    """Check a Matrix homeserver, and return the finding and the seconds by which the local clock is ahead."""
    parts = urlsplit(address)
    title = f"connector {name}"
    costs = "This connector waits and tries again; the others go on."
    made = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    try:
        with closing(made(parts.hostname or "", parts.port, timeout=PATIENCE)) as connection:
            connection.request("GET", f"{parts.path}/_matrix/client/versions")
            answer = connection.getresponse()
            body = answer.read(1_000_000)
            date = answer.headers.get("Date")
    except ssl.SSLError as error:
        way = "Repair the homeserver's certificate, or check the address."
        return DoctorFinding(name=title, state="wrong", found=f"{address}: {error}", costs=costs, way=way), None
    except (OSError, http.client.HTTPException) as error:
        found = f"{address} does not answer: {error or type(error).__name__}"
        way = "Check the address in muster.yaml, and that the homeserver runs."
        return DoctorFinding(name=title, state="wrong", found=found, costs=costs, way=way), None
    try:
        versions = json.loads(body)["versions"]
        newest = str(versions[-1])
    except (ValueError, KeyError, TypeError, IndexError):
        found = f"{address} answers {answer.status}, but not as a Matrix homeserver does"
        way = "Give the address of the client API; it can differ from the name in user ids."
        return DoctorFinding(name=title, state="wrong", found=found, costs=costs, way=way), None
    skew = None
    if date is not None:
        try:
            skew = clock() - email.utils.parsedate_to_datetime(date).timestamp()
        except ValueError:
            skew = None
    return DoctorFinding(name=title, state="ok", found=f"{address} answers (Matrix {newest[:20]})"), skew


def clock_against(address: str, skew: float) -> DoctorFinding:
    if abs(skew) <= CLOCK_SKEW:
        return DoctorFinding(name="clock", state="ok", found=f"agrees with {address}")
    return DoctorFinding(
        name="clock",
        state="wrong",
        found=f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} {address}",
        costs="Times in chat and expiries are off, and certificates may seem invalid.",
        way="Synchronize the clock over the network (`timedatectl set-ntp true`).",
    )
