"""A fleet whose register is on a PostgreSQL server: the same life, also when the server dies in the middle of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bot.auth.owner import owner_identity
from bot.commands import sections
from bot.interfaces.cli import main as cli
from bot.interfaces.cli import output
from database.engine import store
from database.queries.operations import command_runs
from tests import waiting
from tests.bot.fake_agents import launch, roster, steps
from tests.bot.orchestrator import House, house
from tests.postgres import Postgres


@pytest.fixture
async def home(server: Postgres, emptied_database: str, tmp_path: Path) -> AsyncIterator[House]:
    settings = f"register:\n  url: {server.url(emptied_database)}\n"
    async with house(tmp_path, settings=settings, roster=roster(tmp_path, "imp")) as made:
        yield made


async def ask_gateway(home: House, method: str, path: str, body: object = None) -> tuple[int, Any]:
    connector = aiohttp.UnixConnector(str(home.paths.gateway_socket))
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.request(method, f"http://muster{path}", json=body) as answer,
    ):
        return answer.status, json.loads(await answer.text())


@pytest.mark.slow
async def test_a_fleet_lives_through_restarts_of_muster(home: House) -> None:
    async with home.open():
        thread = await launch(home, "imp")
        await home.marks(home.say("hello", thread), "✅")
    async with home.open():
        await home.marks(home.say("hello again", thread), "✅")
        assert "imp" in await home.ask("!ps")
        assert "postgresql://" in await home.ask("!health")
    assert not list(home.paths.state.glob("register.db*"))


async def test_while_the_server_is_away_commands_say_so_and_everything_goes_on_afterwards(
    home: House, server: Postgres
) -> None:
    async with home.open():
        thread = await launch(home, "imp")
        event = home.say(steps({"say": "begun"}, {"wait": True}), thread)
        await home.marks(event, "👀")
        server.kill()

        status, answer = await ask_gateway(home, "POST", "/v1/commands/ps")
        assert status == 503
        assert "does not answer" in answer["error"]
        assert "Start PostgreSQL" in answer["error"]
        status, answer = await ask_gateway(home, "POST", "/v1/commands/stop", {"name": "imp"})
        assert status == 503
        assert "`stop` was not started; write it again then" in answer["error"]
        status, answer = await ask_gateway(home, "POST", "/v1/commands/health")
        assert status == 200
        assert (answer["data"]["status"], answer["data"]["register"]["reachable"]) == ("down", False)
        assert "It is away since" in answer["data"]["register"]["detail"]
        status, answer = await ask_gateway(home, "GET", "/v1/health")
        assert (status, answer["status"]) == (503, "down")

        asked = home.chat.post("!whoami")
        told = home.say("and then this", thread)
        await server.started()
        assert "memory:@ana" in (await home.reply(asked)).text
        await home.ask("!cancel imp")
        await home.marks(event, "⏹️")
        await home.marks(told, "✅")
        status, answer = await ask_gateway(home, "GET", "/v1/health")
        assert (status, answer["register"]["reachable"]) == (200, True)
    replies = [said for said in home.chat.said if getattr(said.content, "reply_to", None) == asked]
    assert len(replies) == 1


async def test_while_the_server_is_away_an_agent_is_cut_off_from_a_shell_and_the_audit_has_it_afterwards(
    home: House, server: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MUSTER_HOME", str(tmp_path))
    async with home.open():
        thread = await home.launch("imp")
        server.kill()
        assert await asyncio.to_thread(cli.run, sections.load(), ["cutoff", "imp"]) == output.DONE
        said = capsys.readouterr()
        assert "does not answer" in said.err
        assert "Nothing of imp leaves any more." in said.out
        await server.started()
        told = home.say("hello?", thread)
        await home.marks(told, "❌")
        assert owner_identity() in (rows := await home.ask("!audit"))
        assert "cutoff" in rows
        assert "Cut off: imp." in await home.ask("!ps")
        assert await home.ask("!restore imp") == "imp may go out again."


@pytest.mark.slow
async def test_a_command_that_the_outage_cut_off_goes_on_by_itself(
    home: House, server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bot.commands.checkpoints import RecordedSteps

    real = RecordedSteps.commit

    async def cut_off(self: RecordedSteps, step: str, act: Any) -> Any:
        monkeypatch.setattr(RecordedSteps, "commit", real)
        server.kill()
        return await real(self, step, act)

    async with home.open() as orchestrator:
        await launch(home, "imp")
        monkeypatch.setattr(RecordedSteps, "commit", cut_off)
        wish = {"identity": "memory:@zoe", "permission": "viewer"}
        status, answer = await ask_gateway(home, "POST", "/v1/commands/operator/set", wish)
        assert status == 503
        assert "`operator set` had started, and continues then by itself" in answer["error"]
        await server.started()
        await waiting.until(lambda: _states(orchestrator.store), lambda found: found.get("operator set") == "done")
        assert "memory:@zoe" in await home.ask("!operators")


async def _states(register: store.Store) -> dict[str, str]:
    """What became of commands, by their names."""
    try:
        async with register.read() as tx:
            runs = await command_runs.in_states(tx, ["running", "done", "failed", "refused"])
    except store.RegisterAway:
        return {}
    return {run.name: run.state for run in runs}
