"""A full disk makes Muster say no in a sentence; it loses nothing, and goes on when there is room."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.agents import watch
from bot.api_client import Client, GatewayResponse
from fleet.supervision import host_lock
from tests.bot.fake_agents import launch, recorded, roster, steps
from tests.bot.orchestrator import ROOM, House, house
from tests.small_disk import small


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small(tmp_path, "4m") as mount:
        yield mount


def fill(disk: Path) -> Path:
    """Take all the room of a disk; deleting the file gives it back."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (65_536, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return filler


async def by_socket(home: House, command: str, **arguments: object) -> GatewayResponse:
    return await asyncio.to_thread(Client(home.paths.gateway_socket, retry_for=0).run, command, arguments)


@pytest.mark.root
async def test_a_full_disk_under_the_register(tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "EVERY", 0.05)
    settings = f"register:\n  url: sqlite:///{disk}/register.db\n"
    async with house(tmp_path / "house", settings=settings, roster=roster(tmp_path, "imp")) as home, home.open():
        thread = await launch(home, "imp")
        await home.ask("!watch imp")
        turn = home.say(steps({"ask": {"title": "t", "rawInput": {"command": "c"}}}, {"say": "the end"}), thread)
        await home.heard(thread, "asks for permission")
        filler = fill(disk)
        answer = await by_socket(home, "stop", name="imp")
        assert answer.status >= 400
        assert "disk is full" in str(answer.body)
        seen = await by_socket(home, "health")
        assert (seen.status, seen.body["data"]["status"]) == (200, "degraded"), seen.body
        assert [each["name"] for each in seen.body["data"]["disks"] if not each["reachable"]] == [str(disk)]
        assert f"{disk} cannot be written: No space left" in seen.body["text"]
        assert "imp" in str((await by_socket(home, "ps")).body["data"])
        health = home.chat.post("!health")
        written = [home.say(f"message {number}", thread) for number in range(3)]
        home.chat.react(
            next(said for said in home.chat.messages(thread) if "asks for permission" in said.text).event_id,
            "✅",
            conversation=thread,
        )
        answer = await by_socket(home, "send", name="imp", text="by socket")
        assert "disk is full" in str(answer.body)
        filler.unlink()
        assert "ok" in (await home.reply(health)).text
        await home.marks(turn, "✅")
        for event in written:
            await home.marks(event, "✅")
        await home.heard(thread, "the end")
        prompts = [item["prompt"] for item in recorded(tmp_path, "imp") if "prompt" in item]
        assert prompts[1:] == ["message 0", "message 1", "message 2"]
        assert "imp" in await home.ask("!ps")
        assert home.chat.texts(ROOM).count((await home.reply(health)).text) == 1


@pytest.mark.slow
async def test_a_full_disk_under_an_agents_journal(tmp_path: Path) -> None:
    async with house(tmp_path, roster=roster(tmp_path, "imp")) as home, home.open():
        thread = await launch(home, "imp")
        turn = home.say(
            steps({"ask": {"title": "t", "rawInput": {"command": "c"}}}, {"say": "x", "times": 10}, {"say": " end."}),
            thread,
        )
        await home.heard(thread, "asks for permission")
        host = host_lock.holder(home.paths.agent_folder("imp"))
        assert host
        resource.prlimit(host, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        question = next(said for said in home.chat.messages(thread) if "asks for permission" in said.text)
        home.chat.react(question.event_id, "✅", conversation=thread)
        waiting = home.say("after the flood", thread)
        async with asyncio.timeout(30):
            while not any("answered" in item for item in recorded(tmp_path, "imp")):
                await asyncio.sleep(0.05)
            while "cannot be written" not in await home.ask("!health") + str((await by_socket(home, "ps")).body):
                await asyncio.sleep(0.1)
        answered = next(item["answered"] for item in recorded(tmp_path, "imp") if "answered" in item)
        assert answered["outcome"]["optionId"] == "no"
        resource.prlimit(host, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        await home.marks(turn, "✅")
        assert "xxxxxxxxxx end." in home.chat.texts(thread)
        await home.marks(waiting, "✅")
        assert "Nothing waits" in await home.ask("!approvals")
