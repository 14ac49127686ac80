"""Operators see what waits for an agent, and change it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bot.agents.messages import queue
from bot.api_client import Client
from bot.commands import sections
from bot.interfaces.cli import main as cli
from database.queries.agents.agent_messages import AgentMessage
from tests.bot.orchestrator import ADMIN, VIEWER, House, house


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as found, found.open():
        yield found


def message(id_: str, state: str) -> AgentMessage:
    return AgentMessage(
        id=id_, agent="coder0", mode="queue", text=id_, attachments=(), sender=ADMIN, connector=None, conversation=None,
        event_id=None, answer_in=None, state=state, turn=None, detail=None, created_at=0.0, updated_at=0.0,
        give_up_at=0.0,
    )  # fmt: skip


def test_the_agent_host_says_the_order_and_what_has_begun() -> None:
    known = [message("begun", "journaled"), message("b", "journaled"), message("c", "pending"), message("d", "pending")]
    assert [each.id for each in queue.in_order(known, ["d", "x", "b"])] == ["d", "b", "c"]
    assert [each.id for each in queue.in_order(known, None)] == ["begun", "b", "c", "d"]


def ids(listed: str) -> list[str]:
    return re.findall(r"^\| `([^`]+)` ", listed, re.MULTILINE)


async def test_what_waits_is_shown_reordered_and_taken_out(home: House, capsys: pytest.CaptureFixture[str]) -> None:
    thread = await home.launch("coder0")
    assert "Nothing waits for coder0." in await home.ask("!queue coder0")
    home.say("[[wait: gate]] first", thread)
    events = [home.say(f"[[say: number {number}]]", thread) for number in (2, 3, 4)]
    for event in events:
        await home.marks(event, "📥")
    listed = await home.ask("!queue coder0")
    assert "3 messages wait for coder0." in listed
    assert "first" not in listed.partition("\n\n`")[0].replace("--first", "")
    two, three, four = ids(listed)
    assert "number 4" in await home.ask(f"!queue coder0 --first {four}")
    assert ids(await home.ask("!queue coder0")) == [four, two, three]
    assert "number 2" in await home.ask(f"!queue coder0 --remove {two}")
    await home.marks(events[0], "↩️")
    assert ids(await home.ask("!queue coder0")) == [four, three]
    assert f"No message '{two}' waits" in await home.ask(f"!queue coder0 --remove {two}")
    assert "No message 'x' waits" in await home.ask("!queue coder0 --first x")
    assert "give one of them" in await home.ask(f"!queue coder0 --first {four} --remove {three}")
    assert "operator" in await home.ask("!queue coder0", sender=VIEWER)

    client = Client(home.paths.gateway_socket)
    capsys.readouterr()
    assert await asyncio.to_thread(cli.run, sections.load(), ["queue", "coder0", "--json"], client=lambda: client) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["text"] for each in found["waiting"]] == ["[[say: number 4]]", "[[say: number 3]]"]
    assert all(each["at_agent"] and each["from"] for each in found["waiting"])

    home.models.release("gate")
    for event in events[1:]:
        await home.marks(event, "✅")
    read = [entry.text for entry in home.models.ledger.entries]
    assert not any("number 2" in text for text in read)
    said = [next(at for at, text in enumerate(read) if f"number {number}" in text) for number in (4, 3)]
    assert said == sorted(said)


async def test_what_waits_for_an_agent_that_does_not_run_can_be_taken_out(home: House) -> None:
    thread = await home.launch("coder0")
    await home.ask("!freeze coder0")
    await home.becomes("frozen")
    home.say("[[say: never]]", thread)
    await home.heard(thread, "this and later messages wait")
    listed = await home.ask("!queue coder0")
    assert "It does not answer, so the order is that in which they were written." in listed
    [waiting] = ids(listed)
    assert "does not run, so its order cannot be changed" in await home.ask(f"!queue coder0 --first {waiting}")
    assert "never" in await home.ask(f"!queue coder0 --remove {waiting}")
    assert "Nothing waits" in await home.ask("!queue coder0")
    await home.ask("!resume coder0")
    await home.marks(home.say("[[say: back]]", thread), "✅")
    assert not any("never" in entry.text for entry in home.models.ledger.entries)
