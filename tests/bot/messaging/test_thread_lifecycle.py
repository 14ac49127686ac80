"""Agents' threads are called as the agents are, and put away when they are stopped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import delete, select, update

from bot.interfaces.chat.thread_rearchive import ThreadRearchive
from bot.messaging.thread_lifecycle import ThreadTitles, TitleSweep, title_of
from connectors.contract.messages import Inbound, Message, OpenThread, Outbound, Retitle, Text
from connectors.delivery import outbox
from connectors.memory import ALL_CAPABILITIES
from core.crash_points import declare
from database import schema
from database.engine.store import Store
from database.queries.agents import agents
from database.queries.chat import thread_owners, thread_titles
from tests.bot.agents.test_status import ROW
from tests.bot.orchestrator import OPERATOR, STRANGER, House, house
from tests.crash.deaths import die_at

FORGET = declare("test.titles.forget")


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as made:
        made.chat.capabilities = replace(ALL_CAPABILITIES, titles=True)
        yield made


@pytest.mark.parametrize(
    ("state", "asks", "title", "archived"),
    [
        ("starting", False, "🟢 coder0", False),
        ("idle", False, "🟢 coder0", False),
        ("idle", True, "✋ coder0", False),
        ("unknown", True, "❔ coder0", False),
        ("failed", True, "❌ coder0", False),
        ("frozen", False, "❄️ coder0", False),
        ("stopped", True, "⏹ coder0", True),
    ],
)
def test_a_title_says_how_the_agent_is(state: str, asks: bool, title: str, archived: bool) -> None:
    assert title_of("coder0", state, asks=asks) == Retitle(title=title, archived=archived)


async def renamings(home: House) -> list[str]:
    """The names that were put into the outbox, oldest first."""
    return await in_outbox(home.orchestrator.store)


async def in_outbox(store: Store) -> list[str]:
    async with store.read() as tx:
        query = select(schema.outbox.c.content).where(schema.outbox.c.key.startswith("title/"))
        return [row.content["title"] for row in await tx.execute(query.order_by(schema.outbox.c.seq))]


async def test_a_thread_is_called_as_its_agent_is_and_put_away_with_it(home: House) -> None:
    async with home.open():
        thread = await home.launch("coder0")
        opener = home.chat.find((await home.row()).thread_key)
        assert opener is not None
        assert isinstance(opener.content, OpenThread)
        assert opener.content.title == "🟢 coder0", "it has its mark from the beginning"

        home.say("[[run: echo permitted > proof.txt]]", thread)
        question = await home.heard(thread, "asks for permission")
        await home.chat.until(lambda: home.chat.titles.get(thread) == Retitle(title="✋ coder0"))
        approval = question.split("permission `")[1].split("`")[0]
        await home.ask(f"!approve {approval}", conversation=thread)
        await home.chat.until(lambda: home.chat.titles[thread] == Retitle(title="🟢 coder0"), limit=30)

        await home.ask("!stop coder0")
        await home.chat.until(lambda: home.chat.titles[thread] == Retitle(title="⏹ coder0", archived=True), limit=30)
        assert "Stopped" in home.chat.texts(thread)[-1], "it is put away after the last word"
        await home.ask("!launch coder0 --runtime sim --sandbox none")
        await home.chat.until(lambda: home.chat.titles[thread] == Retitle(title="🟢 coder0"), limit=30)
        assert await renamings(home) == ["✋ coder0", "🟢 coder0", "⏹ coder0", "🟢 coder0"], "and no more than that"


async def test_a_thread_that_was_put_away_is_so_again_after_what_somebody_wrote_there(home: House) -> None:
    away = Retitle(title="⏹ coder0", archived=True)
    async with home.open() as orchestrator:
        thread = await home.launch("coder0")
        await home.ask("!stop coder0")
        await home.chat.until(lambda: home.chat.titles.get(thread) == away, limit=30)
        for said, answer in (("are you there?", "coder0 is stopped"), ("!ps --all", "coder0"), ("hm", None)):
            before = len(home.chat.texts(thread))
            event = home.say(said, thread, sender=OPERATOR)
            assert not home.chat.titles[thread].archived
            if answer is not None:
                await home.chat.until(partial(_more, home, thread, before), limit=30)
                assert answer in home.chat.texts(thread)[-1]
            await home.chat.until(lambda: home.chat.titles[thread] == away, limit=30)
            await orchestrator.delivery.idle()
            assert home.chat.wire[-1].startswith("title/"), f"after all that {event} causes"
        event = home.say("let me in", thread, sender=STRANGER)
        await home.chat.until(lambda: home.chat.titles[thread] == away, limit=30)

        await home.ask("!launch coder0 --runtime sim --sandbox none")
        await home.chat.until(lambda: home.chat.titles[thread] == Retitle(title="🟢 coder0"), limit=30)


def _more(home: House, thread: str, before: int) -> bool:
    return len(home.chat.texts(thread)) > before


async def test_an_earlier_thread_of_an_agent_is_put_away_again_as_it_was(home: House) -> None:
    away = Retitle(title="⏹ coder0", archived=True)
    async with home.open() as orchestrator:
        thread = await home.launch("coder0")
        await home.ask("!stop coder0")
        await home.chat.until(lambda: home.chat.titles.get(thread) == away, limit=30)
        await home.reply(home.chat.post("!launch coder0 --runtime sim --sandbox none", conversation="elsewhere"))
        home.say("[[say: heard in the old one]]", thread)
        await home.heard(thread, "heard in the old one")
        await home.chat.until(lambda: home.chat.titles[thread] == away, limit=30)
        await orchestrator.delivery.idle()
        assert home.chat.titles[thread] == away


async def test_a_sweep_finds_a_name_that_is_not_known_and_changes_none_that_is(home: House) -> None:
    async with home.open() as orchestrator:
        thread = await home.launch("coder0")
        (job,) = [each for each in orchestrator.services.jobs.table if each.name == "titles"]
        await job.act()
        assert await renamings(home) == []
        async with orchestrator.store.write(FORGET) as tx:
            await tx.execute(delete(schema.titles))
        await job.act()
        await home.chat.until(lambda: home.chat.titles.get(thread) == Retitle(title="🟢 coder0"))
        await home.ask("!kill coder0")
        await home.ask("!confirm")
        await home.heard(thread, "killed, with everything")
        await orchestrator.delivery.idle()
        assert home.chat.titles[thread] == Retitle(title="⏹ coder0", archived=True)
        wire = [key for key in home.chat.wire if key.startswith(("title/", "gone/"))]
        assert wire[-1].startswith("title/"), "it is put away after what is said once it is known to be gone"
        # A crash came when somebody had just written there.
        async with orchestrator.store.write(FORGET) as tx:
            await thread_titles.woke(tx, (await home.row()).thread_key)
        home.chat.titles.clear()
        await job.act()
        await home.chat.until(lambda: home.chat.titles.get(thread) == Retitle(title="⏹ coder0", archived=True))


def test_killed_at_this_place_a_thread_is_renamed_once(tmp_path: Path) -> None:
    async def swept() -> list[str]:
        store = await Store.open(f"sqlite:///{tmp_path}/register.db")
        async with store.write(FORGET) as tx:
            await agents.add(tx, ROW)
        names = ThreadTitles(lambda connector: replace(ALL_CAPABILITIES, titles=True), lambda: 1.0)
        ours = SimpleNamespace(is_ours=lambda row: True)
        await TitleSweep(names, store, ours, lambda: None).look()
        named = await in_outbox(store)
        await store.close()
        return named

    for side in ("before", "after"):
        die_at(f"titles.sweep.{side}", lambda: asyncio.run(swept()))
    assert asyncio.run(swept()) == ["🟢 coder0"]


def test_killed_at_this_place_a_thread_is_put_away_again(tmp_path: Path) -> None:
    said = Inbound(
        connector="memory",
        event_id="1",
        conversation="t",
        parent="room",
        sender="@a",
        sent_at=1.0,
        body=Text(text="?"),
    )
    stopped = replace(ROW, state="stopped", wanted="stopped")

    async def dealt_with(folder: Path) -> None:
        store = await Store.open(f"sqlite:///{folder}/register.db")
        names = ThreadTitles(lambda connector: replace(ALL_CAPABILITIES, titles=True), lambda: 1.0)
        ours = SimpleNamespace(is_ours=lambda row: True, journal_effects=SimpleNamespace(titles=names))
        async with store.write(FORGET) as tx:
            if await agents.get(tx, "coder0") is None:
                await agents.add(tx, stopped)
                opener = OpenThread(title="coder0", message=Message(text="up"))
                put = Outbound(key=stopped.thread_key, connector="memory", conversation="room", content=opener)
                await outbox.put(tx, put, 1.0)
                await tx.execute(update(schema.outbox).values(made_conversation="t"))
                await thread_owners.note(tx, stopped.thread_key, "agent", "coder0")
                await thread_titles.rename(tx, stopped.thread_key, "⏹ coder0", archived=True)
        services = SimpleNamespace(store=store, agents=ours, delivery=SimpleNamespace(wake=lambda: None))
        woken = ThreadRearchive(services)  # type: ignore[arg-type]
        await woken.heard(said)
        await woken.dealt_with(said)
        await TitleSweep(names, store, ours, lambda: None).look()
        async with store.read() as tx:
            assert await thread_titles.every(tx) == {stopped.thread_key: ("⏹ coder0", True)}
        assert await in_outbox(store)
        await store.close()

    for number, place in enumerate(("titles.wake", "titles.put_away")):
        for side in ("before", "after"):
            folder = tmp_path / f"{number}{side}"
            folder.mkdir()
            die_at(f"{place}.{side}", lambda folder=folder: asyncio.run(dealt_with(folder)))  # type: ignore[misc]
            asyncio.run(dealt_with(folder))


async def test_where_threads_have_no_names_nothing_is_put(home: House) -> None:
    home.chat.capabilities = ALL_CAPABILITIES
    async with home.open() as orchestrator:
        await home.launch("coder0")
        await home.ask("!stop coder0")
        (job,) = [each for each in orchestrator.services.jobs.table if each.name == "titles"]
        await job.act()
        assert await renamings(home) == []
        async with orchestrator.store.read() as tx:
            assert (await tx.execute(select(schema.titles))).all() == []
