"""Interactions that are not over: used commands and pressed buttons, and how each can be answered.

Discord tells of an interaction once, and keeps no history of them. So one is written down in the connector's folder
before it is acknowledged. What a crash kept from the inbox is given to it after the next start, and what is to be
answered then still has its token.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import structlog

from connectors.contract import message_codec
from connectors.contract.messages import Inbound
from connectors.discord.append_only_file import LineFile
from connectors.discord.json_values import Json
from core.crash_points import declare

WRITE = declare("discord.interaction")

FILE = "interactions"
#: Seconds for which a token can be used ("Receiving and Responding", Followup Messages).
TOKEN_LIFE = 900.0
_MOST = 2_000

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Interaction:
    """Something that someone did, and what happened to it so far."""

    id: str
    token: str
    application: str
    kind: int
    """Its type ("Interaction Type")."""
    at: float
    """When it was done, in seconds since the epoch."""
    inbound: Inbound | None
    """For the inbox; None once it is there."""
    acknowledged: bool = False
    """Whether Discord knows that we have it. Before, it may be that nobody answered in time, and it does not count."""
    first: str | None = None
    """The nonce of what is said first in answer to it, from before that is said."""
    message: str | None = None
    """The message that stands as the answer."""

    @property
    def webhook(self) -> str:
        """The path under which it is answered by its token."""
        return f"/webhooks/{self.application}/{quote(self.token, safe='')}"

    def alive(self, now: float) -> bool:
        """Return whether it can be answered by its token."""
        return now - self.at < TOKEN_LIFE


class OpenInteractions:
    """The latest two thousand."""

    def __init__(self, path: Path) -> None:
        self._known: OrderedDict[str, Interaction] = OrderedDict()
        self._file = LineFile(path, WRITE, most=4 * _MOST)
        for line in self._file.read():
            self._read(line)

    def get(self, number: str | None) -> Interaction | None:
        """Return the one with this id."""
        return None if number is None else self._known.get(number)

    def waiting(self) -> Iterator[Interaction]:
        """Yield those that are not in the inbox, oldest first."""
        yield from [each for each in self._known.values() if each.inbound is not None]

    async def add(self, interaction: Interaction) -> None:
        """Write one down. What cannot be written is known until the next start."""
        self._keep(interaction)
        await self._append(_line(interaction))

    async def change(self, number: str, **changes: Any) -> None:
        """Write down what happened to one."""
        known = self._known.get(number)
        if known is None:
            return
        self._known[number] = replace(known, **changes)
        await self._append(json.dumps({"id": number, **changes}))

    async def drop(self, number: str) -> None:
        """It does not count."""
        if self._known.pop(number, None) is not None:
            await self._append(json.dumps({"id": number, "dropped": True}))

    def _keep(self, interaction: Interaction) -> None:
        self._known[interaction.id] = interaction
        if len(self._known) > _MOST:
            self._known.popitem(last=False)

    async def _append(self, line: str) -> None:
        try:
            await self._file.append(line, all_lines=self._lines)
        except OSError as error:
            _log.error("discord_interaction_not_kept", reason=str(error))

    def _lines(self) -> Iterator[str]:
        return (_line(each) for each in self._known.values())

    def _read(self, line: str) -> None:
        # A line may have been cut off in the middle, and one of another version may say anything.
        try:
            found = json.loads(line)
            number = found.pop("id")
            if found.pop("dropped", False):
                self._known.pop(number, None)
            elif "token" in found:
                self._keep(Interaction(id=number, **found | {"inbound": _decoded(found["inbound"])}))
            elif number in self._known:
                self._known[number] = replace(self._known[number], **found)
        except (ValueError, TypeError, KeyError, AttributeError, message_codec.CodecError):
            return


def _line(interaction: Interaction) -> str:
    inbound = interaction.inbound
    written = asdict(replace(interaction, inbound=None))
    if inbound is not None:
        own = {name: getattr(inbound, name) for name in ("connector", "event_id", "conversation", "parent", "sender")}
        written["inbound"] = own | {"sent_at": inbound.sent_at, "body": message_codec.encode_inbound(inbound)}
    return json.dumps(written)


def _decoded(stored: Json | None) -> Inbound | None:
    if stored is None:
        return None
    body = stored["body"]
    return Inbound(**stored | {"body": message_codec.decode_inbound(body), "groups": message_codec.decode_groups(body)})
