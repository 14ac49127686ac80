"""Orders over a gateway that a test plays, and while nothing listens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bot.commands.syntax import command_line
from bot.config.paths import Paths
from bot.gateway_feed.requests import GatewayRequests
from bot.interfaces.tui.feeds.orders import CommandOrders
from tests.bot.gateway_feed.small_gateway import SmallGateway


async def _soon(_: float) -> None:
    await asyncio.sleep(0.01)


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    made = Paths.of({"MUSTER_HOME": str(tmp_path), "HOME": str(tmp_path)})
    made.prepare()
    return made


@pytest.fixture
async def gateway(paths: Paths) -> AsyncIterator[SmallGateway]:
    async with SmallGateway(paths.gateway_socket).running() as running:
        yield running


def orders_of(paths: Paths, *, retry_for: float = 0.1) -> CommandOrders:
    return CommandOrders(paths, GatewayRequests(paths.gateway_socket, retry_for=retry_for, sleep=_soon))


async def test_a_command_is_run_with_its_arguments(paths: Paths, gateway: SmallGateway) -> None:
    result = await orders_of(paths).run("task close", {"id": "t-1", "force": True}, confirmed=True)
    assert (result.done, result.text) == (True, "Did task close.")
    assert gateway.ran == [("task close", {"id": "t-1", "force": True})]
    assert gateway.confirmed == [True]


async def test_a_refusal_is_a_result(paths: Paths, gateway: SmallGateway) -> None:
    body: dict[str, object] = {
        "id": "1",
        "state": "refused",
        "text": f"No. {command_line('ps')} shows why.",
        "data": None,
        "code": "x",
    }
    gateway.answers["kill"] = (422, body)
    result = await orders_of(paths).run("kill", {"name": "coder0"})
    assert (result.done, result.text) == (False, "No. `ps` shows why.")


async def test_a_diff_is_kept_apart(paths: Paths, gateway: SmallGateway) -> None:
    body: dict[str, object] = {
        "id": "1",
        "state": "done",
        "text": "1 file.",
        "data": {"diff": "+x"},
        "reason": None,
        "code": None,
    }
    gateway.answers["diff"] = (200, body)
    assert (await orders_of(paths).run("diff", {"name": "coder0"})).diff == "+x"


async def test_words_complete_an_argument_and_no_error_is_shown(paths: Paths, gateway: SmallGateway) -> None:
    gateway.words["agents"] = ["coder0"]
    assert await orders_of(paths).words("agents") == ["coder0"]
    await gateway.stop()
    assert await orders_of(paths).words("agents") == []


async def test_a_lost_answer_is_said(paths: Paths) -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_unix_server(cut, paths.gateway_socket):
        result = await orders_of(paths).run("ps", {})
    assert not result.done
    assert "runs once when Muster is back, or not at all" in result.text


async def test_without_muster_only_what_needs_it_not_works(paths: Paths) -> None:
    orders = orders_of(paths)
    refused = await orders.run("launch", {"name": "coder0"})
    assert not refused.done
    assert "Until then these work: cutoff, estop, freeze, kill, restore, resume, stop." in refused.text
    for command in ("stop", "kill", "freeze", "resume"):
        unknown = await orders.run(command, {"name": "coder0"})
        assert (unknown.done, "No agent of this installation is called 'coder0'" in unknown.text) == (False, True)
    for command in ("cutoff", "restore"):
        absent = await orders.run(command, {"name": "coder0"})
        assert (absent.done, "The egress does not run" in absent.text) == (False, True)


async def test_the_emergency_stop_needs_nobody(paths: Paths) -> None:
    pulled = await orders_of(paths).run("estop", {})
    assert pulled.done
    assert "Everything is stopped" in pulled.text
    assert (paths.state / "estop").exists()
    ended = await orders_of(paths).run("estop", {"clear": True}, confirmed=True)
    assert "The emergency stop is over." in ended.text
    assert not (paths.state / "estop").exists()


async def test_orders_go_past_a_muster_without_its_register(paths: Paths, gateway: SmallGateway) -> None:
    gateway.answers["estop"] = (503, {"error": "The register cannot be used.", "code": "register"})
    gateway.answers["launch"] = (503, {"error": "The register cannot be used.", "code": "register"})
    assert (await orders_of(paths).run("estop", {})).done
    assert (paths.state / "estop").exists()
    assert (await orders_of(paths).run("launch", {"name": "a"})).text == "The register cannot be used."
