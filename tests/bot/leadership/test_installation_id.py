"""Agents belong to the installation that started them; whoever else leads leaves them alone and says so."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from bot.agents import status
from bot.leadership import installation_id
from bot.leadership.installation_id import AgentElsewhere, Homes
from bot.leadership.lease import HOLD
from database.engine.store import Store
from database.queries.agents import agents
from database.queries.agents.agents import AgentRow
from tests.bot.orchestrator import house
from tests.postgres import Postgres

HERE = socket.gethostname()


def row(name: str = "coder0", *, home: str | None = None, host: str = HERE, **more: object) -> AgentRow:
    known = {
        "role": "coder", "runtime": "sim", "model": None, "sandbox": "none", "workspace": "/w", "wanted": "running",
        "at_once": False, "keep_session": True, "state": "idle", "detail": None, "launch_id": "l1",
        "launched_by": "ana", "connector": "memory", "room": "room", "thread_key": f"th/{name}",
        "started_at": 1.0, "stopped_at": None,
    }  # fmt: skip
    return AgentRow(name=name, home=home, host=host, **(known | more))  # type: ignore[arg-type]


def test_whose_an_agent_is() -> None:
    ours = Homes("word", HERE, shared=True).is_ours
    assert ours(row(home="word"))
    assert ours(row(home="word", host="as-it-was-called-before")), "a machine can be renamed"
    assert not ours(row(home="other")), "one machine can have two"
    assert ours(row())
    assert not ours(row(host="hill"))
    assert Homes("word", HERE, shared=False).is_ours(row(home="other", host="hill")), "a file has one"


def test_the_word_is_drawn_once_and_stays(tmp_path: Path) -> None:
    word = installation_id.word_of(tmp_path / "installation")
    assert len(word) == 16
    assert installation_id.word_of(tmp_path / "installation") == word
    assert (tmp_path / "installation").stat().st_mode & 0o777 == 0o600


async def test_agents_from_before_there_were_words_belong_to_who_leads_on_their_host(
    postgres: Postgres, emptied_database: str
) -> None:
    url = postgres.url(emptied_database)
    old, far = await Store.open(url), await Store.open(url, host="hill")
    for store, name in ((old, "coder0"), (far, "coder1")):
        async with store.write(HOLD) as tx:
            await agents.add(tx, row(name))
        await store.close()
    store = await Store.open(url, home="word")
    settled = await installation_id.settled(store, "word")
    async with store.read() as tx:
        rows = {each.name: each for each in await agents.every(tx)}
    await store.close()
    assert (rows["coder0"].home, rows["coder1"].home) == ("word", None)
    assert settled.is_ours(rows["coder0"])
    assert not settled.is_ours(rows["coder1"])
    assert not Homes("other", HERE, shared=True).is_ours(rows["coder0"])


@pytest.mark.parametrize(
    ("wanted", "state", "shown"),
    [("running", "idle", "unknown"), ("running", "failed", "unknown"), ("stopped", "stopped", "stopped")],
)
def test_what_is_shown_of_an_agent_elsewhere(wanted: str, state: str, shown: str) -> None:
    view = status.view_from_afar(row(host="hill", wanted=wanted, state=state))
    assert (view.liveness.state, view.liveness.evidence, view.elsewhere) == (shown, "none", True)
    assert "hill" in (view.liveness.detail or "")


async def test_commands_about_an_agent_elsewhere_are_refused_and_change_nothing(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.open() as orchestrator:
        await home.launch("coder0")
        before = await home.row("coder0")
        orchestrator.agents.context.is_ours = lambda _: False
        for line in (
            "!stop coder0",
            "!restart coder0",
            "!freeze coder0",
            "!launch coder0",
            "!cutoff coder0",
            "!cancel coder0",
        ):
            assert "belongs to the Muster on" in await home.ask(line), line
        assert "unknown" in await home.ask("!ps")
        assert await home.row("coder0") == before
        with pytest.raises(AgentElsewhere, match="muster backup restore"):
            orchestrator.agents.make_sure_it_is_ours(before)
        orchestrator.agents.context.is_ours = lambda _: True
        assert "idle" in await home.ask("!ps")
