"""An operator at any seat: does a thing in the best way that the chat system offers, or else by its fallback."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from connectors.contract.messages import Capabilities
from tests.acceptance.seat import Seat, Seen


@dataclass(frozen=True, slots=True)
class Said:
    """What the operator wrote."""

    id: str
    place: str
    before: int
    """How many messages of the bot there were before."""


@dataclass(slots=True)
class Operator:
    seat: Seat
    can: Callable[[], Capabilities]
    """What the connector can do now."""

    # --- writing -------------------------------------------------------------------------------------------------

    async def say(self, text: str, place: str | None = None) -> Said:
        """Write into the room, or into a thread."""
        before, place = len(await self.seat.look()), place or self.seat.room
        return Said(await self.seat.say(text, place), place, before)

    async def ask(self, line: str, words: str, place: str | None = None) -> Seen:
        """Give a command and wait for the reply, which has these words in it."""
        said = await self.say(line, place)
        reply = await self.heard(words, place=said.place, after=said)
        if self.seat.shows_replies:
            assert reply.answers == said.id
        return reply

    async def tell(self, agent: str, text: str) -> Said:
        """Write to an agent: in its thread, or where there are no threads, by command."""
        if self.can().threads:
            return await self.say(text, await self.place_of(agent))
        return await self.say(f"!send {agent} '{text}'")

    async def launch(self, agent: str, *options: str) -> str:
        """Launch an agent and wait until it is ready. Returns where it speaks: its thread, or the room."""
        said = await self.say(" ".join(["!launch", agent, *options]))
        place = await self.place_of(agent)
        await self.heard("Ready", place=place, after=said)
        return place

    # --- seeing --------------------------------------------------------------------------------------------------

    async def heard(self, words: str, *, place: str | None = None, after: Said | None = None) -> Seen:
        """The first message with these words, as it reads now."""

        def find(seen: list[Seen]) -> Seen | None:
            later = seen[after.before :] if after is not None else seen
            return next((each for each in later if words in each.text and place in (None, each.place)), None)

        return await self.seat.until(find, f"{words!r} in {place}")

    async def standing(self, words: str) -> list[Seen]:
        """All messages with these words."""
        return [each for each in await self.seat.look() if words in each.text]

    async def place_of(self, agent: str) -> str:
        """The agent's thread, once it is open, or the room where there are no threads."""

        def opener(seen: list[Seen]) -> Seen | None:
            found = [each for each in seen if each.text.startswith((f"{agent} ·", f"**{agent}** ·"))]
            return next((each for each in found if each.opens or not self.can().threads), None)

        shown = await self.seat.until(opener, f"the first message of {agent}")
        return shown.opens or shown.place

    async def at_work(self, agent: str) -> None:
        """Look at the fleet until the agent works on something; its row is as the chat system shows tables."""
        row = re.compile(rf"^[|-]? ?{agent}\b(?! in ).*working", re.M)
        async with asyncio.timeout(self.seat.patience):
            while not row.search((await self.ask("!ps", "tokens today")).text):
                pass

    async def changed(self, message: Seen, words: str) -> Seen:
        """What became of a message: itself with these words, or a later one where nothing can be changed."""

        def find(seen: list[Seen]) -> Seen | None:
            if self.can().edits:
                return next((each for each in seen if each.id == message.id and words in each.text), None)
            ids = [each.id for each in seen]
            later = seen[ids.index(message.id) + 1 :]
            return next((each for each in later if words in each.text and each.place == message.place), None)

        return await self.seat.until(find, f"{words!r} in place of {message.text!r}")

    async def marked(self, said: Said, *marks: str) -> None:
        """Wait until these receipts are on a message; without reactions there are none."""
        if not self.can().reactions:
            return

        async def there() -> bool:
            return set(marks) <= set(await self.seat.receipts(said.id, said.place))

        await self.wait(there, f"{marks} on {said.id}")

    # --- answering -----------------------------------------------------------------------------------------------

    async def answer(self, question: Seen, mark: str, word: str, *, tap: bool = True) -> Said | None:
        """Answer a question: by what can be tapped on it, or else by the command that it names.

        Args:
            question: the message that asks.
            mark: the sign of the answer.
            word: with what the line begins that has the command; of several lines, the first.
            tap: False: by the command in any case.
        """
        if tap and (self.can().buttons or self.can().taps):
            await self.choose(question, mark)
            return None
        line = next(line for line in question.text.splitlines() if word in line)
        command = re.search(r"`(![^`]+)`", line.partition(word)[2])
        assert command is not None, line
        return await self.say(command[1], question.place)

    async def choose(self, question: Seen, mark: str) -> None:
        """Tap or press what stands for a sign, once it can be."""

        def offered(seen: list[Seen]) -> Seen | None:
            return next((each for each in seen if each.id == question.id and mark in each.offers), None)

        await self.seat.choose(await self.seat.until(offered, f"{mark} on {question.text!r}"), mark)

    async def wait(self, true: Callable[[], Awaitable[bool]], what: str) -> None:
        try:
            async with asyncio.timeout(self.seat.patience):
                while not await true():
                    await self.seat.news()
        except TimeoutError:
            raise AssertionError(f"{self.seat.kind}: not seen in {self.seat.patience:.0f} s: {what}") from None
