"""What did not arrive, and sending it again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from register.crashpoints import declare
from register.queries import agent_messages
from register.queries.agent_messages import AgentMessage
from tests.bot.house import house

if TYPE_CHECKING:
    from pathlib import Path

WRITE = declare("test.letters")


def letter(number: int) -> AgentMessage:
    return AgentMessage(
        id=f"m{number:04d}", agent="coder0", mode="queue", text=f"[[say: letter {number}]]", attachments=[],
        sender="memory:@ana", connector=None, conversation=None, event_id=None, answer_in=None, state="failed",
        turn=None, detail="it died", created_at=number, updated_at=number, give_up_at=number,
    )  # fmt: skip


async def test_the_newest_of_very_many_failures_is_listed_and_sent_again(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.open() as orchestrator:
        thread = await home.launch("coder0")
        async with orchestrator.store.write(WRITE) as tx:
            for number in range(1, 1102):
                await agent_messages.add(tx, letter(number))
        assert "`m1101`" in await home.ask("!dead-letters")
        assert "Sent again" in await home.ask("!retry m1101")
        await home.heard(thread, "letter 1101")
        assert "`m1101`" not in await home.ask("!dead-letters")
        assert "Sent again" in await home.ask("!retry m0001")


async def test_what_ended_long_ago_is_forgotten_and_what_is_under_way_is_not(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.open() as orchestrator:
        async with orchestrator.store.write(WRITE) as tx:
            for number in (1, 2, 3):
                await agent_messages.add(tx, letter(number))
            await agent_messages.change(tx, "m0001", now=1.0, state="pending")
            assert await agent_messages.forget(tx, 3.0) == 1
        async with orchestrator.store.read() as tx:
            assert await agent_messages.get(tx, "m0001") is not None
            assert await agent_messages.get(tx, "m0002") is None
