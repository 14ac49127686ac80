"""Interactions: commands that people choose from Discord's menu, and buttons that they press.

Each is acknowledged at once, whatever else goes on, since Discord waits three seconds for that. Only what Discord knows
to be acknowledged counts: whoever saw its own error, that no one answered, does it again. What an interaction means is
said by whoever deals with its kind; it goes into the inbox in its turn, behind what was heard before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from urllib.parse import quote

import discord
import structlog

from connectors.contract.messages import Inbound, InboundBody
from connectors.discord import message_conversion
from connectors.discord.interactions.open_interactions import TOKEN_LIFE, Interaction, OpenInteractions
from connectors.discord.json_values import Json, identifier, json_object
from connectors.discord.member_roles import groups
from connectors.discord.rest_client import ACKNOWLEDGED, DiscordClient, DiscordRefusal, DiscordRequestError
from connectors.discord.sent_log import SentLog
from connectors.discord.thread_cache import ThreadCache

COMMAND = discord.InteractionType.application_command.value
COMPONENT = discord.InteractionType.component.value
COMPLETION = discord.InteractionType.autocomplete.value
SAY = discord.InteractionResponseType.channel_message.value
DEFER = discord.InteractionResponseType.deferred_channel_message.value
DEFER_CHANGE = discord.InteractionResponseType.deferred_message_update.value
CHOICES = discord.InteractionResponseType.autocomplete_result.value

#: The flag of a message that only one person sees.
EPHEMERAL = discord.MessageFlags.ephemeral.flag
_LONGEST_TOKEN = 1_000
#: Seconds for one request that acknowledges; Discord itself waits three.
_ACKNOWLEDGE_WITHIN = 2.0
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0
_WRITE_WITHIN = 0.5
#: Seconds left to another connector of the same bot, whose channel it may be.
_OTHERS_FIRST = 1.0
#: More at once are not looked at: whoever makes so many is no operator.
_MOST_AT_ONCE = 100

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class HeardInteraction:
    """An interaction as Discord tells it; `data` and `message` were written by anybody."""

    id: str
    token: str
    application: str
    kind: int
    channel: str
    parent: str | None
    """The channel, when `channel` is a thread in it."""
    private: bool
    """Whether it was done in a direct conversation."""
    sender: str
    groups: tuple[str, ...] | None
    """None: it is not told."""
    data: Json
    message: Json
    """That on which a button was pressed."""

    def inbound(self, body: InboundBody, *, connector: str) -> Inbound:
        """Return what it means, for the inbox."""
        return Inbound(
            connector=connector,
            event_id=self.id,
            conversation=self.channel,
            parent=self.parent,
            sender=self.sender,
            sent_at=message_conversion.sent_at(int(self.id)),
            body=body,
            groups=self.groups or (),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Dealt:
    """What happens to an interaction: how it is acknowledged, and what goes into the inbox."""

    acknowledgement: Json
    inbound: Inbound | None = None
    answered: bool = False
    """Whether the acknowledgement is the answer."""


#: Says what an interaction of one type means, None if it is not for us. It has to be quick.
InteractionKind: TypeAlias = Callable[[HeardInteraction], Awaitable[Dealt | None]]


@dataclass(kw_only=True)
class Interactions:
    """Hears of interactions, acknowledges them, and hands on what is for the inbox."""

    wire: DiscordClient
    guild: str
    places: ThreadCache
    kept: OpenInteractions
    record: SentLog
    kinds: Mapping[int, InteractionKind]
    clock: Callable[[], float]
    hand_on: Callable[[Inbound], None]
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _seen: set[str] = field(default_factory=set)

    def hear(self, event: Json) -> None:
        """Deal with one, beside whatever else goes on. One that is told again, as after a resume, counts once."""
        found = heard(event, self.guild)
        if found is None or found.kind not in self.kinds or found.id in self._seen or self.kept.get(found.id):
            return
        if len(self._tasks) >= _MOST_AT_ONCE:
            _log.warning("discord_interaction_left_out", id=found.id, sender=found.sender)
            return
        if found.parent is not None:
            self.places.stands(found.channel, found.parent)
        self._begin(self._deal(found), found.id)

    async def run(self) -> None:
        """Take up what a crash left, and then be there to be ended; cancelled, it ends what is under way."""
        try:
            for each in self.kept.waiting():
                if not each.alive(self.clock()):
                    # Whoever did it has long been told by Discord that no one answered.
                    await self.kept.drop(each.id)
                elif each.acknowledged and each.inbound is not None:
                    self.hand_on(each.inbound)
                elif each.inbound is not None:
                    self._begin(self._doubtful(each, each.inbound), each.id)
            await asyncio.Event().wait()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def arrived(self, number: str) -> None:
        """It is in the inbox."""
        known = self.kept.get(number)
        if known is not None and known.inbound is not None:
            await self.kept.change(number, inbound=None)

    # --- one of them ---------------------------------------------------------------------------------------------

    def _begin(self, work: Any, number: str) -> None:
        self._seen.add(number)
        task: asyncio.Task[None] = asyncio.create_task(work, name=f"discord interaction {number}")
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._ended(done, number))

    def _ended(self, task: asyncio.Task[None], number: str) -> None:
        self._tasks.discard(task)
        self._seen.discard(number)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("discord_interaction_broke", id=number, error=repr(error))

    async def _deal(self, found: HeardInteraction) -> None:
        ours = found.private or self.places.is_ours(found.channel)
        if not ours:
            await asyncio.sleep(_OTHERS_FIRST)
            dealt: Dealt | None = _elsewhere(found, self.places.channel)
        else:
            dealt = await self.kinds[found.kind](found)
        if dealt is None:
            return
        if dealt.inbound is None:
            await self._acknowledge(found.id, found.token, dealt.acknowledgement, doubt=False)
            return
        interaction = Interaction(
            id=found.id,
            token=found.token,
            application=found.application,
            kind=found.kind,
            at=message_conversion.sent_at(int(found.id)),
            inbound=dealt.inbound,
            first="acknowledgement" if dealt.answered else None,
        )
        writing = asyncio.ensure_future(self.kept.add(interaction))
        # A slow disk is not to cost the answer in time.
        await asyncio.wait({writing}, timeout=_WRITE_WITHIN)
        taken = await self._acknowledge(found.id, found.token, dealt.acknowledgement, doubt=False)
        await writing
        await self._settle(interaction, dealt.inbound, taken)

    async def _doubtful(self, interaction: Interaction, inbound: Inbound) -> None:
        """A crash came before it was known whether Discord has the acknowledgement: it is given again, to be told."""
        again: Json = {"type": DEFER_CHANGE if interaction.kind == COMPONENT else DEFER}
        taken = await self._acknowledge(interaction.id, interaction.token, again, doubt=True)
        await self._settle(interaction, inbound, taken)

    async def _settle(self, interaction: Interaction, inbound: Inbound, taken: _Taken | None) -> None:
        if taken is None:
            _log.info("discord_interaction_too_late", id=interaction.id)
            await self.kept.drop(interaction.id)
            return
        message = taken.message or await self._original(interaction)
        await self.kept.change(interaction.id, acknowledged=True, message=message)
        if message is not None and interaction.first is not None:
            # What is there are words of someone else's, and not to be taken for something that was to be said.
            await self.record.put(message_conversion.nonce(f"interaction {interaction.id}"), message)
        self.hand_on(inbound)

    async def _original(self, interaction: Interaction) -> str | None:
        """Return the message that shows that a command was acknowledged, where the answer that names it was lost."""
        if interaction.kind != COMMAND:
            return None
        try:
            async with asyncio.timeout(_ACKNOWLEDGE_WITHIN):
                found = await self.wire.call("GET", f"{interaction.webhook}/messages/@original")
        except (DiscordRequestError, TimeoutError):
            return None
        return identifier(json_object(found).get("id"))

    async def _acknowledge(self, number: str, token: str, body: Json, *, doubt: bool) -> _Taken | None:
        """Tell Discord that we have it, until it says yes or no; None: no.

        Args:
            number: the interaction's id.
            token: its token.
            body: the answer.
            doubt: whether an earlier request may have come through without our knowing.
        """
        path, pause = f"/interactions/{number}/{quote(token, safe='')}/callback", _FIRST_PAUSE
        until = message_conversion.sent_at(int(number)) + TOKEN_LIFE
        while True:
            try:
                async with asyncio.timeout(_ACKNOWLEDGE_WITHIN):
                    answer = await self.wire.call("POST", path, body=body, query={"with_response": "true"})
                return _Taken(_response(answer))
            except DiscordRefusal as error:
                if error.code == ACKNOWLEDGED:
                    # If not by us, then by another process of the same bot.
                    return _Taken(None) if doubt else None
                if error.status != 429 and error.status < 500:
                    return None
                doubt = doubt or error.status >= 500
            except (DiscordRequestError, TimeoutError):
                doubt = True
            if self.clock() > until:
                return None
            await asyncio.sleep(pause)
            pause = min(_LONGEST_PAUSE, 2 * pause)


@dataclass(frozen=True, slots=True)
class _Taken:
    message: str | None
    """The message that shows the acknowledgement, where there is one and Discord said which."""


def heard(event: Json, guild: str) -> HeardInteraction | None:
    """Return what an event says; None when it is nothing that we could answer."""
    number, channel = identifier(event.get("id")), identifier(event.get("channel_id"))
    application, token, kind = identifier(event.get("application_id")), event.get("token"), event.get("type")
    member, place = json_object(event.get("member")), json_object(event.get("channel"))
    private = "guild_id" not in event
    user = json_object(event.get("user")) if private else json_object(member.get("user"))
    sender = identifier(user.get("id"))
    if number is None or channel is None or application is None or sender is None or user.get("bot"):
        return None
    if not isinstance(token, str) or not 0 < len(token) <= _LONGEST_TOKEN or not isinstance(kind, int):
        return None
    if not private and event["guild_id"] != guild:
        return None
    threads = (10, 11, 12)  # "Channel Types"
    return HeardInteraction(
        id=number,
        token=token,
        application=application,
        kind=kind,
        channel=channel,
        parent=identifier(place.get("parent_id")) if place.get("type") in threads else None,
        private=private,
        sender=sender,
        groups=None if private else groups(member),
        data=json_object(event.get("data")),
        message=json_object(event.get("message")),
    )


def aside(text: str) -> Json:
    """Return an acknowledgement that is an answer for whoever asked alone."""
    return _said(text, EPHEMERAL)


def aloud(text: str) -> Json:
    """Return an acknowledgement that is an answer for everybody there."""
    return _said(text, message_conversion.SUPPRESS_EMBEDS)


def _said(text: str, flags: int) -> Json:
    words = message_conversion.shown(text)[: message_conversion.LONGEST]
    return {"type": SAY, "data": {"content": words, "flags": flags, "allowed_mentions": message_conversion.NOBODY}}


def _elsewhere(found: HeardInteraction, channel: str) -> Dealt | None:
    if found.kind == COMPLETION:
        return Dealt(acknowledgement={"type": CHOICES, "data": {"choices": []}})
    return Dealt(acknowledgement=aside(f"I work in <#{channel}> and its threads, and in direct messages."))


def _response(answer: object) -> str | None:
    """Return the message that an acknowledgement made ("Interaction Callback Response")."""
    return identifier(json_object(json_object(answer).get("interaction")).get("response_message_id"))
