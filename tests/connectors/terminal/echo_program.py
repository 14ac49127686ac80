"""A program for tests: a terminal whose Muster answers each message with what it was, in a thread where asked to.

python -m tests.connectors.terminal.echo_program FOLDER
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from connectors.contract.agent_count_feed import AgentCounts, Headcount
from connectors.contract.messages import (
    Batch,
    Emphasis,
    Message,
    OpenThread,
    Outbound,
    OutboundContent,
    Priority,
    React,
    Replace,
    Text,
)
from connectors.terminal.connector import TerminalConnector
from connectors.terminal.draft import Draft
from connectors.terminal.prompt import converse
from connectors.terminal.settings import TerminalSettings


def _words(text: str) -> Message:
    """An agent's own, which no sign of Muster's marks."""
    return Message(text=text, emphasis=Emphasis.TEXT, byline="parrot")


class Parrot:
    def __init__(self, folder: Path) -> None:
        self.headcount = Headcount()
        settings = TerminalSettings(attention="desktop")
        self.terminal = TerminalConnector("terminal", settings, folder, headcount=self.headcount)
        self.terminal.subscribe(self.accept)
        self.news: asyncio.Queue[Batch] = asyncio.Queue()
        self.said = 0

    async def accept(self, batch: Batch) -> None:
        self.news.put_nowait(batch)

    async def say(
        self,
        content: OutboundContent,
        conversation: str,
        priority: Priority = Priority.REPLY,
        target: str | None = None,
    ) -> str:
        self.said += 1
        key = f"k{self.terminal.scope()[:6]}{self.said}"
        message = Outbound(key=key, connector="terminal", conversation=conversation, content=content, priority=priority)
        await self.terminal.send(message, conversation=conversation, target=target)
        return key

    async def answer(self) -> None:
        while True:
            batch = await self.news.get()
            for event in batch.events:
                assert isinstance(event.body, Text)
                text, place = event.body.text, event.conversation
                if text.startswith("open "):
                    await self.say(OpenThread(title=text[5:], message=Message(text=f"{text[5:]} starts")), place)
                elif text == "write":
                    key = await self.say(_words("one"), place, Priority.PROGRESS)
                    for growing in ("one\ntwo", "one\ntwo\nthr"):
                        await self.say(Replace(target=key, message=_words(growing)), place, target=key)
                    end = Replace(target=key, message=_words("one\ntwo\nthree"), final=True)
                    await self.say(end, place, target=key)
                elif text.startswith("wait "):
                    self.headcount.tell(AgentCounts(waiting=int(text[5:])))
                elif text == "work":
                    await self.terminal.typing(place, active=True)
                else:
                    await self.say(React(target=event.event_id, key="✅"), place, target=event.event_id)
                    await self.say(_words(f"you said {text!r}"), place)
            self.news.task_done()

    async def complete(self, text: str) -> list[str]:
        return [word for word in ("!launch", "!ps") if word.startswith(text)]


async def main(folder: Path) -> None:
    parrot = Parrot(folder)
    answering = asyncio.ensure_future(parrot.answer())
    await converse(
        parrot.terminal,
        complete=parrot.complete,
        history=folder / "history",
        settle=parrot.news.join,
        draft=Draft(folder / "draft"),
    )
    answering.cancel()
    print("bye")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
