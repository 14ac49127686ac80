"""The connector keeps to what the person did with the pane, and says in its health what can be done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from connectors.contract.agent_count_feed import AgentCounts, Headcount
from connectors.contract.connector_protocol import NotReady
from connectors.contract.messages import Health, Message, Outbound
from connectors.tmux.connector import TmuxConnector
from connectors.tmux.pane_model import PanePlace, WantedPane
from connectors.tmux.process_client import TmuxUnanswered
from connectors.tmux.settings import TmuxSettings
from tests.waiting import until

LIMIT = 10.0


class Tmux:
    """What tmux answers, and what it was asked."""

    def __init__(self) -> None:
        self.trouble: str | None = None
        self.there = False
        self.asked: list[tuple[bool, bool]] = []
        self.news = asyncio.Event()

    async def __call__(self, wanted: WantedPane, *, make: bool, anew: bool = False) -> PanePlace | None:
        self.asked.append((make, anew))
        self.news.set()
        if self.trouble is not None:
            raise TmuxUnanswered(self.trouble)
        self.there = self.there or make
        return PanePlace(pane="%7", session=wanted.session) if self.there else None

    async def asked_again(self, times: int) -> None:
        async with asyncio.timeout(LIMIT):
            while len(self.asked) < times:
                self.news.clear()
                await self.news.wait()


@asynccontextmanager
async def running(
    folder: Path, tmux: Tmux, *, grace: float = 0.05, retry: float = 60.0, headcount: Headcount | None = None
) -> AsyncIterator[TmuxConnector]:
    connector = TmuxConnector(
        "tmux", TmuxSettings(), folder, asking=tmux, grace=grace, retry=retry, headcount=headcount
    )
    life = asyncio.ensure_future(connector.start(None))
    try:
        await tmux.asked_again(1)
        yield connector
    finally:
        life.cancel()
        await asyncio.gather(life, return_exceptions=True)
        await connector.stop()


async def said(connector: TmuxConnector, words: str) -> Health:
    """Its health, once it says so."""
    health = await until(connector.health, lambda health: words in health.detail, limit=LIMIT)
    return health


async def test_a_pane_is_made_at_the_start_and_nothing_asked_while_it_is_there(tmp_path: Path) -> None:
    tmux = Tmux()
    async with running(tmp_path, tmux, grace=LIMIT) as connector:
        waiting = "Waiting for the program that shows the room in the tmux pane %7"
        assert (await said(connector, waiting)).reachable is None
        async with connector.attached():
            assert (await said(connector, "Shown in the tmux pane %7 (session Muster)")).reachable is True
    assert tmux.asked == [(True, False)]


async def test_that_a_pane_was_closed_is_known_before_the_time_of_a_program_to_come_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.tmux.connector.SOON_S", 0.01)
    tmux = Tmux()
    async with running(tmp_path, tmux, grace=10 * LIMIT) as connector:
        async with connector.attached():
            tmux.there = False
        await said(connector, "was closed")


async def test_a_pane_that_was_closed_stays_closed_until_it_is_asked_for(tmp_path: Path) -> None:
    tmux = Tmux()
    async with running(tmp_path, tmux) as connector:
        async with connector.attached():
            tmux.there = False
        assert (await said(connector, "was closed; `muster tmux open` makes another")).reachable is False
        assert tmux.asked == [(True, False), (False, False)]
        assert "in the tmux pane %7 (session Muster): `tmux attach -t '=Muster'`" in await connector.open()
        assert tmux.asked[2:] == [(True, True)]
        async with connector.attached():
            await said(connector, "Shown in")


async def test_a_pane_in_which_nothing_talks_to_muster_is_told_of(tmp_path: Path) -> None:
    tmux = Tmux()
    async with running(tmp_path, tmux) as connector:
        health = await said(
            connector, "The program that shows the room in the tmux pane %7 (session Muster) did not start"
        )
        assert health.reachable is False
        assert tmux.asked == [(True, False), (False, False)]


async def test_a_program_that_comes_back_in_time_is_no_news(tmp_path: Path) -> None:
    tmux = Tmux()
    async with running(tmp_path, tmux, grace=LIMIT) as connector:
        for _ in range(3):
            async with connector.attached():
                await said(connector, "Shown in")
        await connector.open()
    assert tmux.asked == [(True, False), (True, True)]


async def test_without_tmux_it_is_tried_again_and_what_is_said_waits(tmp_path: Path) -> None:
    tmux = Tmux()
    tmux.trouble = "There is no tmux here. Install the package tmux."
    async with running(tmp_path, tmux, retry=0.02) as connector:
        health = await said(connector, "no tmux here")
        assert "Tried again every" in health.detail
        assert health.reachable is False
        with pytest.raises(NotReady, match="Install the package tmux"):
            await connector.open()
        await connector.connected()
        outbound = Outbound(key="k1", connector="tmux", conversation="fleet", content=Message(text="hello"))
        await connector.send(outbound, conversation="fleet", target=None)
        tmux.trouble = None
        await said(connector, "%7")
        async with connector.attached() as session:
            assert (await anext(session)).text == "hello"


async def test_the_counts_are_told_when_a_client_comes_and_when_they_change(tmp_path: Path) -> None:
    headcount = Headcount()
    headcount.tell(AgentCounts(working=1))
    async with running(tmp_path, Tmux(), headcount=headcount) as connector:
        assert not headcount.wanted.is_set(), "nobody counts for nobody"
        async with connector.attached() as session, connector.attached() as other:
            assert headcount.wanted.is_set()
            headcount.tell(AgentCounts(working=2, waiting=1, failed=3))
            headcount.tell(AgentCounts(working=2, waiting=1, failed=3))
            headcount.tell(AgentCounts(unknown=1))
            for each in (session, other):
                texts = [(await anext(each)).text for _ in range(3)]
                assert texts == [
                    "1 working, 0 waiting, 0 failed",
                    "2 working, 1 waiting, 3 failed",
                    "0 working, 0 waiting, 0 failed, 1 unknown",
                ]
        assert not headcount.wanted.is_set()
