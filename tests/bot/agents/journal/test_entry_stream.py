from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from bot.agents.journal.entry_stream import EntryStream
from core.redaction import MASK, SecretMasker
from fleet.journal import events
from fleet.journal.events import Event, JournalEntry, JournalPosition
from tests.bot.orchestrator import House, house

HALVES = ("key: sk-ant-api03-", "Zq81kdkWmmQ0Xyz end")


def observed(*said: Event) -> list[tuple[int, Any]]:
    """What observers get: the entries' numbers, and the words or the kind."""
    stream = EntryStream(SecretMasker())
    entries = [JournalEntry(position=JournalPosition(1, seq), at=0.0, event=event) for seq, event in enumerate(said)]
    shown = [each for entry in entries for each in stream.after(entry)] + list(stream.rest())
    return [(each.position.seq, getattr(each.event, "text", each.event.KIND)) for each in shown]


def text(words: str) -> Event:
    return events.TextChunk(turn="t", text=words)


def thought(words: str) -> Event:
    return events.ThoughtChunk(turn="t", text=words)


def test_words_come_before_what_follows_them() -> None:
    tool = events.ToolCall(turn="t", call="c", title="Read parser.py")
    ended = events.TurnEnded(turn="t", message="m", stop_reason="end_turn")
    assert observed(thought("I think"), text("I look"), text(" at it."), tool, text("Done."), ended) == [
        (0, "I "), (0, "think"), (1, "I "), (2, "look at "), (2, "it."), (3, "tool"), (4, ""), (4, "Done."),
        (5, "turn_ended"),
    ]  # fmt: skip


def test_a_secret_does_not_get_through_in_pieces_with_something_between_them() -> None:
    usage = events.UsageReported(turn="t", fields={})
    assert observed(text(HALVES[0]), usage, text(HALVES[1])) == [
        (0, "key: "), (1, "usage"), (2, f"{MASK} "), (2, "end"),
    ]  # fmt: skip
    for between in (events.ToolCall(turn="t", call="c", status="completed"), thought("hm")):
        pieces = observed(text(HALVES[0]), between, text(HALVES[1]))
        assert "Zq81" not in str(pieces)


def test_the_next_turn_begins_a_text_of_its_own() -> None:
    ended = events.TurnEnded(turn="t", message="m", stop_reason="end_turn")
    assert observed(text("token="), ended, text("a1b2c3d4e5f6 ")) == [
        (0, ""), (0, "token="), (1, "turn_ended"), (2, "a1b2c3d4e5f6 "),
    ]  # fmt: skip


@asynccontextmanager
async def watching(home: House) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    connector = aiohttp.UnixConnector(str(home.paths.gateway_socket))
    async with (
        aiohttp.ClientSession(connector=connector) as client,
        client.ws_connect("http://muster/v1/events", autoping=False) as socket,
    ):
        # The gateway answers once it tells this client of events.
        await socket.ping()
        while (await socket.receive()).type is not aiohttp.WSMsgType.PONG:
            pass
        yield socket


async def entries_of_turn(socket: aiohttp.ClientWebSocketResponse) -> AsyncIterator[dict[str, Any]]:
    """The entries until a turn ends."""
    async for message in socket:
        entry = json.loads(message.data).get("entry") or {}
        yield entry
        if entry.get("kind") == "turn_ended":
            break


async def test_a_secret_that_a_runtime_splits_is_masked_on_the_gateways_events(tmp_path: Path) -> None:
    lines = [f"MIIEowIBAAKCAQEAx{number}" + "Zq81kdkWmmQ0Xyz" * 3 for number in range(3)]
    begin = f"[[say: Here it is: -----BEGIN RSA PRIVATE KEY-----]][[say: {lines[0]}]]"
    end = f"[[say: {lines[1]}]][[say: {lines[2]}]][[say: -----END RSA PRIVATE KEY-----]][[say: It is long.]]"
    async with house(tmp_path) as home, home.open():
        thread = await home.launch("coder0")
        async with watching(home) as early, asyncio.timeout(60):
            home.say(f"{begin}[[wait: gate]]{end}", thread)
            told = entries_of_turn(early)
            entries = []
            async for entry in told:
                entries.append(entry)
                if said(entries).startswith("Here it is"):
                    break
            async with watching(home) as late:
                home.models.release("gate")
                entries += [entry async for entry in told]
                late_entries = [entry async for entry in entries_of_turn(late)]
    for shown in (said(entries), said(late_entries)):
        assert "Zq81" not in shown
        assert shown.endswith(f"{MASK}\nIt is long.")


def said(entries: list[dict[str, Any]]) -> str:
    return "".join(entry["text"] for entry in entries if entry.get("kind") == "text")
