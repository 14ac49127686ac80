"""Cut-off and emergency stop: closed at once, durable when acknowledged, there again after a restart."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sqlite3
from pathlib import Path

import pytest

from budget.limits.scopes import Policy
from egress.ledger.model import ENDING, LedgerUnwritable
from egress.limits.admission_interface import AdmissionRefused, Cut, Ending
from egress.limits.blocklist import StopNotKept
from tests import waiting
from tests.egress.ledger.rows import look
from tests.egress.limits.gate import allowance, asked, heard, house, pool


async def test_a_cut_off_ends_everything_of_one_agent_and_is_durable_when_acknowledged(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        mine = [await home.gate.admit(asked()) for _ in range(3)]
        other = await home.gate.admit(asked("coder1"))
        tunnels: list[Cut] = []
        home.gate.watch("coder0", tunnels.append)
        denying = asyncio.ensure_future(home.gate.deny("coder0", "cutoff", cause="it went wild", by="ann", id="d1"))
        await asyncio.sleep(0)
        # Before anything was written.
        assert not denying.done()
        assert all(lease.cut for lease in mine)
        assert len(tunnels) == 1
        assert home.gate.denied("coder0") == tunnels[0]
        assert await denying == 3
        assert look(tmp_path / "ledger.db", "SELECT agent, id FROM denials") == [("coder0", "d1")]
        assert other.cut is None
        assert home.gate.denied("coder1") is None
        with pytest.raises(
            AdmissionRefused, match=r"cut off by ann: it went wild\. `muster restore coder0` opens it again"
        ):
            await home.gate.admit(asked())
        (action, refused) = await home.actions()
        assert (action.id, action.action, action.cause, action.by) == ("d1", "cutoff", "it went wild", "ann")
        assert action.detail == {"streams": 3}
        assert refused.action == "refused"
        # The same command again changes nothing.
        assert await home.gate.deny("coder0", "cutoff", cause="it went wild", by="ann", id="d1") == 0
        assert len(await home.actions()) == 2


async def test_a_cut_off_outlives_a_restart_until_it_is_taken_back(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await home.gate.deny("coder0", "freeze", cause="", by="ann", id="d1")
        await home.gate.close()
        assert [(agent, action) for agent, action, _ in home.enforced] == [("coder0", "freeze")]
    async with house(tmp_path, agents=0) as home:
        assert home.gate.denied("coder0") is not None
        assert home.agent()["denied"]["by"] == "ann"
        with pytest.raises(AdmissionRefused):
            await home.gate.admit(asked())
        assert await home.gate.allow("coder0", cause="calm again", by="bob", id="d2")
        await home.use()
        assert not await home.gate.allow("coder0", cause="", by="bob")
        assert home.enforced == []
        assert [each.action for each in await home.actions()] == ["freeze", "freeze", "refused", "restore"]


async def test_everybody_can_be_cut_off(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        leases = [await home.gate.admit(asked(name)) for name in ("coder0", "coder1")]
        assert await home.gate.deny("*", "cutoff", cause="", by="ann", id="d1") == 2
        assert all(lease.cut for lease in leases)
        with pytest.raises(AdmissionRefused, match=r"Every agent was cut off by ann"):
            await home.gate.admit(asked())
        await home.gate.allow("*", cause="", by="ann")
        await home.gate.admit(asked())


async def test_with_a_full_disk_a_cut_off_holds_and_is_written_later(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        lease = await home.gate.admit(asked())
        with contextlib.closing(sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(LedgerUnwritable):
                await home.gate.deny("coder0", "kill", cause="", by="ann", id="d1")
            assert lease.cut is not None
            assert home.gate.denied("coder0") is not None
            # Said again, it is not acknowledged before it is durable.
            with pytest.raises(LedgerUnwritable):
                await home.gate.deny("coder0", "kill", cause="", by="ann", id="d1")
            # What is to be opened stays closed until that is durable.
            with pytest.raises(LedgerUnwritable):
                await home.gate.allow("coder0", cause="", by="ann")
            assert home.gate.denied("coder0") is not None
            other.execute("ROLLBACK")
        await waiting.until(lambda: home.ledger.unwritable is None)
        assert await home.gate.deny("coder0", "kill", cause="", by="ann", id="d1") == 0
        assert look(tmp_path / "ledger.db", "SELECT agent, action, id FROM denials") == [("coder0", "kill", "d1")]
        await home.gate.close()
        assert [(agent, action) for agent, action, _ in home.enforced] == [("coder0", "kill")]
        assert [each.action for each in await home.actions()] == ["kill", "kill"]


async def test_who_watches_no_more_is_told_nothing(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        told: list[str] = []
        home.gate.watch("coder0", lambda _: told.append("first"))
        stop = home.gate.watch("coder0", lambda _: told.append("second"))
        stop()
        stop()
        await home.gate.deny("coder0", "cutoff", cause="", by="ann", id="d1")
        assert told == ["first"]


@pytest.mark.parametrize(
    ("scope", "closed"), [("agent:coder0", True), ("profile:base", True), ("host", True), ("account:main", False)]
)
async def test_a_spent_limit_closes_routes_too_unless_it_is_one_accounts(
    tmp_path: Path, scope: str, closed: bool
) -> None:
    limit = allowance(500, scope) if scope.startswith("agent") else pool(500, scope)
    async with house(tmp_path, limit) as home:
        tunnels: list[Cut] = []
        home.gate.watch("coder0", tunnels.append)
        await home.use(read=400)
        assert home.gate.denied("coder0") is None if not closed else home.gate.denied("coder0") is not None
        assert bool(tunnels) is closed
        await home.limits()
        assert home.gate.denied("coder0") is None


# --- the emergency stop -----------------------------------------------------------------------------------------------


async def test_a_file_stops_everything_of_everybody_and_its_going_opens_it(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        leases = [await home.gate.admit(asked(name)) for name in ("coder0", "coder1")]
        tunnels: list[Cut] = []
        home.gate.watch("coder1", tunnels.append)
        home.estop.touch()
        home.gate.look()
        home.gate.look()
        assert all("muster estop --clear" in cut.reason for lease in leases for cut in heard(lease))
        assert len(tunnels) == 1
        for lease in leases:
            await lease.settle(Ending(ended="cut"))
        assert home.gate.standing()["estop"] is True
        with pytest.raises(AdmissionRefused, match="The emergency stop is set"):
            await home.gate.admit(asked())
        home.estop.unlink()
        await home.use()
        assert [each.action for each in await home.actions()] == ["estop", "refused", "estop-clear"]


async def test_an_admission_sees_the_stop_before_anybody_looked(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        lease = await home.gate.admit(asked())
        home.estop.touch()
        with pytest.raises(AdmissionRefused, match="The emergency stop is set"):
            await home.gate.admit(asked("coder1"))
        assert lease.cut is not None


async def test_the_stop_is_there_before_anything_is_served(tmp_path: Path) -> None:
    (tmp_path / "estop").touch()
    async with house(tmp_path) as home:
        assert home.gate.denied("coder0") is not None


async def test_a_commanded_stop_is_a_file_and_outlives_a_restart(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        lease = await home.gate.admit(asked())
        stopping = asyncio.ensure_future(home.gate.estop(cause="too much", by="ann"))
        await asyncio.sleep(0)
        assert lease.cut is not None
        assert await stopping == 1
        assert home.estop.exists()
    async with house(tmp_path, agents=0) as home:
        assert home.gate.denied("coder0") is not None
        await home.gate.clear_estop(cause="fine", by="bob")
        assert not home.estop.exists()
        assert home.gate.denied("coder0") is None
        stops = [(each.action, each.cause, each.by) for each in await home.actions() if each.by != "egress"]
        assert stops == [("estop", "too much", "ann"), ("estop-clear", "fine", "bob")]


async def test_a_stop_whose_file_cannot_be_written_holds_all_the_same(tmp_path: Path) -> None:
    away = tmp_path / "away"
    async with house(tmp_path, estop=away / "estop") as home:
        lease = await home.gate.admit(asked())
        with pytest.raises(StopNotKept, match="holds while this egress runs"):
            await home.gate.estop(cause="", by="ann")
        assert lease.cut is not None
        home.gate.look()
        assert home.gate.denied("coder0") is not None
        away.mkdir()
        await home.gate.clear_estop(cause="", by="ann")
        assert home.gate.denied("coder0") is None


@pytest.mark.parametrize(
    ("action", "id_", "words"),
    [
        ("cutoff", "d1", r"The agent coder0 was cut off by ann: enough\. `muster restore coder0` opens it again\."),
        ("freeze", "d1", r"The agent coder0 was frozen by ann: enough\. `muster resume coder0` brings it back\."),
        ("kill", "d1", r"The agent coder0 was killed by ann: enough\. `muster launch coder0` starts it again\."),
        # As the orchestrator closes the way of one that it is about to freeze or kill itself.
        ("cutoff", f"{ENDING}freeze/r1", r"was frozen by ann\. `muster resume coder0` brings it back\."),
        ("cutoff", f"{ENDING}kill/r1", r"was killed by ann\. `muster launch coder0` starts it again\."),
        ("cutoff", f"{ENDING}r1", r"was cut off by ann\. `muster restore coder0` opens it again\."),
    ],
)
async def test_what_is_said_of_a_denial_names_the_command_that_ends_it(
    tmp_path: Path, action: Policy, id_: str, words: str
) -> None:
    async with house(tmp_path) as home:
        lease = await home.gate.admit(asked())
        await home.gate.deny("coder0", action, cause="enough", by="ann", id=id_)
        assert lease.cut is not None
        assert re.search(words, lease.cut.reason)
        with pytest.raises(AdmissionRefused, match=words):
            await home.gate.admit(asked())
        await home.gate.close()
