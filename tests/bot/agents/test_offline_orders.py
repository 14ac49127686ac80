"""What an operator orders in a shell while no orchestrator runs, and what the next orchestrator makes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from bot.app import autostart
from bot.auth.owner import owner_identity
from bot.config.paths import Paths
from bot.gateway_feed.requests import GatewayRequests
from bot.interfaces.tui.feeds.orders import DOOR, CommandOrders
from bot.setup import offline_stop, shutdown_record
from bot.text.errors import UserError
from database.queries.operations import audit_log
from fleet.supervision import host_lifecycle, offline_orders
from fleet.supervision.offline_orders import FILE, STOP, OfflineOrder
from tests import waiting
from tests.bot.orchestrator import House, house

ROSTER = "preset: minimal\nagents: [{name: coder0, runtime: sim, sandbox: none, persistent: true}]\n"
ORDERS: dict[str, Callable[[Paths, str], str]] = {
    "stop": partial(offline_stop.stop, now=False),
    "kill": offline_stop.kill,
    "freeze": partial(offline_stop.freeze, now=False),
}


async def launched(home: House) -> str:
    """Launch an agent that has a conversation, and end the orchestrator. Returns its launch."""
    async with home.open():
        thread = await home.launch("coder0")
        await home.marks(home.say("[[say: hello]]", thread), "✅")
        return (await home.row()).launch_id


async def settled(home: House, wanted: str, *states: str) -> None:
    await waiting.until(home.row, lambda row: row.wanted == wanted and row.state in states)


async def audited(home: House, *, door: str = "cli") -> list[tuple[str, str, str]]:
    """The orders in the audit that came from a shell, or from another place."""
    async with home.orchestrator.store.read() as tx:
        lines = await audit_log.since(tx, 0, limit=100)
    return [(line.action, line.identity, line.outcome) for line in lines if line.door == door]


@pytest.mark.parametrize(
    ("order", "wanted", "back", "ready"),
    [
        ("stop", "stopped", "launch", "going on with its conversation"),
        ("kill", "stopped", "launch", "in a new conversation"),
        ("freeze", "frozen", "resume", "going on with its conversation"),
    ],
)
async def test_an_order_without_muster_holds_and_is_audited_once(
    tmp_path: Path, order: str, wanted: str, back: str, ready: str
) -> None:
    async with house(tmp_path, roster=ROSTER) as home:
        await launched(home)
        await asyncio.to_thread(ORDERS[order], home.paths, "coder0")
        assert not host_lifecycle.is_running(home.paths.agent_folder("coder0"))
        for _ in range(2):
            async with home.open(bring_up=True):
                await settled(home, wanted, wanted)
                assert await audited(home) == [(order, owner_identity(), "done")]
        async with home.open():
            await home.ask(f"!{back} coder0")
            await settled(home, "running", "idle")
            thread = await home.thread("coder0")
            await home.marks(home.say("[[say: here again]]", thread), "✅")
            assert ready in [text for text in home.chat.texts(thread) if "Ready" in text][-1]
            assert not offline_orders.keeps_down(home.paths.agent_folder("coder0"))


async def test_an_order_of_the_dashboard_without_muster_is_the_dashboards_in_the_audit(tmp_path: Path) -> None:
    async with house(tmp_path, roster=ROSTER) as home:
        await launched(home)
        orders = CommandOrders(home.paths, GatewayRequests(home.paths.gateway_socket, door=DOOR))
        for command in ("freeze", "resume", "stop", "kill"):
            result = await orders.run(command, {"name": "coder0"})
            assert result.done, result.text
        async with home.open(bring_up=True):
            await settled(home, "stopped", "stopped")
            given = [(each, owner_identity(), "done") for each in ("freeze", "resume", "stop", "kill")]
            assert await audited(home, door="tui") == given
            assert await audited(home) == []


async def test_an_agent_is_frozen_and_resumed_without_muster(tmp_path: Path) -> None:
    async with house(tmp_path, roster=ROSTER) as home:
        launch = await launched(home)
        with pytest.raises(UserError, match="It is not frozen"):
            await asyncio.to_thread(offline_stop.resume, home.paths, "coder0")
        assert await asyncio.to_thread(ORDERS["freeze"], home.paths, "coder0") == "coder0 is frozen."
        assert await asyncio.to_thread(offline_stop.resume, home.paths, "coder0")
        assert host_lifecycle.is_running(home.paths.agent_folder("coder0"))
        async with home.open():
            thread = await home.thread("coder0")
            await home.marks(home.say("[[say: here again]]", thread), "✅")
            row = await home.row()
            assert (row.wanted, row.launch_id) == ("running", launch)
            assert "going on with its conversation" in " ".join(home.chat.texts(thread))
            assert [action for action, *_ in await audited(home)] == ["freeze", "resume"]


async def test_only_muster_resumes_what_it_froze_itself(tmp_path: Path) -> None:
    async with house(tmp_path, roster=ROSTER) as home:
        await launched(home)
        async with home.open():
            await home.ask("!freeze coder0")
            await settled(home, "frozen", "frozen")
        await waiting.until(lambda: not host_lifecycle.is_running(home.paths.agent_folder("coder0")))
        assert not await asyncio.to_thread(offline_stop.resume, home.paths, "coder0")
        assert not host_lifecycle.is_running(home.paths.agent_folder("coder0"))
        async with home.open():
            await settled(home, "running", "idle")
            assert await audited(home) == [("resume", owner_identity(), "done")]


async def test_a_stopped_agent_is_not_resumed(tmp_path: Path) -> None:
    async with house(tmp_path, roster=ROSTER) as home:
        await launched(home)
        await asyncio.to_thread(ORDERS["stop"], home.paths, "coder0")
        with pytest.raises(UserError, match="stopped, not frozen"):
            await asyncio.to_thread(offline_stop.resume, home.paths, "coder0")
        async with home.open():
            await settled(home, "stopped", "stopped")
        # A shell cannot know that: the register has the order.
        assert not await asyncio.to_thread(offline_stop.resume, home.paths, "coder0")
        async with home.open():
            found = await waiting.until(lambda: audited(home), lambda found: len(found) >= 2)
            assert found[1] == ("resume", owner_identity(), "refused")
            assert (await home.row()).wanted == "stopped"


async def test_a_launch_after_an_order_is_the_later_word(tmp_path: Path) -> None:
    async with house(tmp_path, roster=ROSTER) as home:
        await launched(home)
        old = OfflineOrder(id="o1", order=STOP, by="terminal:ana", at=5.0)
        offline_orders.give(home.paths.agent_folder("coder0"), old)
        async with home.open():
            await home.marks(home.say("[[say: here]]", await home.thread("coder0")), "✅")
            assert await audited(home) == [("stop", "terminal:ana", "done")]
            assert not offline_orders.keeps_down(home.paths.agent_folder("coder0")), "it is restarted if it falls"
            assert (await home.row()).wanted == "running"


async def test_a_file_of_an_earlier_version_stops_the_agent(tmp_path: Path) -> None:
    async with house(tmp_path, roster=ROSTER) as home:
        await launched(home)
        (home.paths.agent_folder("coder0") / FILE).touch()
        async with home.open():
            await settled(home, "stopped", "stopped")
            assert await audited(home) == [("stop", "shell", "done")]


async def test_an_agent_that_went_down_with_muster_stays_down_if_it_was_stopped_then(tmp_path: Path) -> None:
    async with house(tmp_path, roster=ROSTER) as home:
        await launched(home)
        async with home.open():
            await home.ask("!stop coder0")
            await settled(home, "stopped", "stopped")
        shutdown_record.write(home.paths.brought_down, ["coder0"])
        await asyncio.to_thread(ORDERS["stop"], home.paths, "coder0")
        async with home.open() as orchestrator:
            await autostart.bring_up(orchestrator.services, orchestrator.executor, stagger_s=0)
            assert (await home.row()).wanted == "stopped"
