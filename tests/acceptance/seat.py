"""A seat at a chat system: what an operator does there and sees, in the same words for all of them.

A seat is a real client, or the operator's side of a chat server that lives in the test; it shares no code with the
connector. What a chat system's people cannot do there at all raises `NotImplementedError`.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")

#: Seconds for which anything is waited for; generous, since a busy machine is slow.
LIMIT = 60.0
#: Seconds after which a seat is looked at again although it brought no news.
LOOK_AGAIN = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Download:
    """A file that the bot sent."""

    name: str
    ref: str
    """By which the seat finds its bytes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """A message of the bot as it stands now."""

    id: str
    place: str
    """The conversation in which it stands."""
    text: str
    answers: str | None = None
    """The operator's message that it is shown to answer."""
    opens: str | None = None
    """The conversation of the thread below it."""
    offers: tuple[str, ...] = ()
    """What can be tapped or pressed on it: reactions, or the signs on buttons."""
    file: Download | None = None
    changes: int = 0
    """How often it was seen to be changed."""


class Seat(ABC):
    """One operator in the fleet room of one chat system, from its opening on."""

    kind: str
    """The connector's kind, which is its name in muster.yaml, too."""
    who: str
    """The operator, as the connector names people."""
    room: str
    """The fleet room."""
    shows_replies: bool = True
    """Whether it can be seen which message another one answers."""
    takes_back: bool = True
    """Whether people can delete and edit what they wrote."""
    attaches: bool = True
    """Whether people can send files."""

    keeps_taps: bool = True
    """Whether a tap reaches Muster also when it is not there at that moment."""

    patience: float = LIMIT
    """Seconds for which the operator waits for anything."""

    # --- how Muster comes here -----------------------------------------------------------------------------------

    @abstractmethod
    def block(self) -> Mapping[str, Any]:
        """The connector's block of muster.yaml."""

    def environment(self) -> Mapping[str, str]:
        """Variables that the block refers to, and that the connector needs to be found."""
        return {}

    async def arrived(self) -> None:  # noqa: B027 - most need not
        """Wait until Muster hears what is said from now on. Its health says already that it is connected."""

    async def leave(self) -> None:  # noqa: B027 - most need not
        """End what Muster made at the seat and what is to outlive it."""

    # --- what the operator does ----------------------------------------------------------------------------------

    @abstractmethod
    async def say(self, text: str, place: str) -> str:
        """Write a message into a conversation. Returns its id."""

    async def attach(self, content: bytes, name: str, media_type: str, place: str, caption: str) -> str:
        """Send a file with a caption. Returns the message's id."""
        raise NotImplementedError

    async def choose(self, message: Seen, offer: str) -> None:
        """Tap or press one of a message's offers."""
        raise NotImplementedError

    async def edit(self, message: str, text: str, place: str) -> None:
        """Change a message of one's own."""
        raise NotImplementedError

    async def take_back(self, message: str, place: str) -> None:
        """Delete a message of one's own."""
        raise NotImplementedError

    # --- what the operator sees ----------------------------------------------------------------------------------

    @abstractmethod
    async def look(self) -> list[Seen]:
        """All messages of the bot, in the order in which they came."""

    @abstractmethod
    async def news(self) -> None:
        """Return when there may be something new to see, at the latest after `LOOK_AGAIN` seconds or so."""

    async def receipts(self, message: str, place: str) -> list[str]:
        """The bot's reactions to a message of one's own, in the order in which they came, doubles included."""
        raise NotImplementedError

    async def working(self) -> set[str]:
        """The conversations in which somebody is shown to be at work now, or was lately."""
        raise NotImplementedError

    async def fetch(self, file: Download) -> bytes:
        """What is in a file."""
        raise NotImplementedError

    async def until(self, wanted: Callable[[list[Seen]], T | None], what: str) -> T:
        """What `wanted` finds in the messages, as soon as it finds anything.

        Raises:
            AssertionError: nothing for longer than the operator's patience; the message tells what there is.
        """
        try:
            async with asyncio.timeout(self.patience):
                while not (found := wanted(await self.look())):
                    await self.news()
                return found
        except TimeoutError:
            last = "\n".join(f"  {each.place}: {each.text!r}" for each in (await self.look())[-15:])
            raise AssertionError(
                f"{self.kind}: {what}: not seen in {self.patience:.0f} s; the last is\n{last}"
            ) from None
