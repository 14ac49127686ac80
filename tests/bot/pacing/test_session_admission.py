"""Where a session starts: the account that it is on, and the model that it begins with."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bot.config.accounts import Account
from bot.pacing.account_leases import LEASED, lease
from bot.text.errors import UserError
from database.engine.store import Store
from database.queries.agents import agents, session_accounts
from database.queries.agents.agents import AgentRow
from database.queries.agents.session_accounts import AccountLease
from fleet.roster import loader as roster
from tests.bot.orchestrator import House, house
from tests.bot.pacing.fake_pace import SetPace, paced

NOW = 1_000_000.0


# --- leases ------------------------------------------------------------------------------------------------------


def agent(name: str, **said: Any) -> AgentRow:
    plain: dict[str, Any] = {
        "name": name, "role": "coder", "runtime": "sim", "model": "opus", "sandbox": "none", "workspace": "/w",
        "wanted": "running", "at_once": False, "keep_session": True, "state": "idle", "detail": None,
        "launch_id": f"l-{name}", "launched_by": "ana", "connector": "memory", "room": "room", "thread_key": "t",
        "started_at": NOW, "stopped_at": None,
    }  # fmt: skip
    return AgentRow(**plain | said)


class Desk:
    """What `lease` needs of the services, and what it told."""

    def __init__(self, store: Store, **accounts: int | None) -> None:
        self.told: list[str] = []
        self.environ: dict[str, str] = {}
        self.store = store
        self.clock = lambda: NOW
        self.names = tuple(accounts)
        made = {name: Account(provider="anthropic", at_once=at_once) for name, at_once in accounts.items()}
        self.settings = SimpleNamespace(accounts=made)
        self.agents = SimpleNamespace(journal_effects=SimpleNamespace(note=self._note))
        self.pace = SetPace(self.clock)

    async def _note(self, tx: object, row: AgentRow, key: str, text: str) -> None:
        del tx, row, key
        self.told.append(text)

    async def start(self, row: AgentRow, *, may_refuse: bool = True) -> str:
        """Have a session start as a launch does; the account that it is on."""
        snapshot = await self.pace.snapshot()
        async with self.store.write(LEASED) as tx:
            await agents.add(tx, row)
            services: Any = self
            found = await lease(services, tx, row, {"anthropic": self.names}, snapshot, may_refuse=may_refuse)
        return found["anthropic"]


async def test_ten_that_start_together_spread_over_two_accounts(store: Store) -> None:
    desk = Desk(store, main=None, spare=None)
    desk.pace.put("account:main/7d", 0.3)
    desk.pace.put("account:spare/7d", 0.3)
    starts = await asyncio.gather(*(desk.start(agent(f"coder{number}")) for number in range(10)))
    assert Counter(starts) == {"main": 5, "spare": 5}
    async with store.read() as tx:
        assert Counter(each.account for each in await session_accounts.live(tx)) == {"main": 5, "spare": 5}


async def test_who_is_stopped_takes_no_room_and_keeps_its_account(store: Store) -> None:
    desk = Desk(store, main=None, spare=None)
    first = await desk.start(agent("coder0"))
    assert first == "main"
    async with store.write(LEASED) as tx:
        await agents.change(tx, "coder0", wanted="stopped")
    assert await desk.start(agent("coder1")) == "main"
    assert await desk.start(agent("coder2")) == "spare"
    assert await desk.start(agent("coder0")) == "main"


async def test_what_it_was_on_with_another_provider_takes_no_room_any_more(store: Store) -> None:
    desk = Desk(store, main=None)
    async with store.write(LEASED) as tx:
        before = AccountLease(
            agent="coder0", provider="openai", account="key", launch_id="l", reason="it was another", leased_at=NOW
        )
        await session_accounts.put(tx, before)
    await desk.start(agent("coder0"))
    async with store.read() as tx:
        assert [each.account for each in await session_accounts.live(tx)] == ["main"]


async def test_an_account_whose_credential_is_missing_is_left_while_there_is_another(store: Store) -> None:
    desk = Desk(store, main=None, spare=None)
    desk.settings.accounts["main"] = Account(provider="anthropic", credential="env:KEY")  # type: ignore[arg-type]
    desk.environ["KEY"] = "sk"
    assert await desk.start(agent("coder0")) == "main"
    desk.environ["KEY"] = " "
    assert await desk.start(agent("coder1")) == "spare"
    assert await desk.start(agent("coder0")) == "spare"
    assert "has no credential any more" in desk.told[-1]
    desk.names = ("main",)
    assert await desk.start(agent("coder2")) == "main", "the egress says then what is missing"


async def test_an_agent_is_moved_when_its_account_is_used_up_and_told(store: Store) -> None:
    desk = Desk(store, main=None, spare=None)
    desk.pace.put("account:main/5h", 0.2)
    desk.pace.put("account:spare/5h", 0.6)
    assert await desk.start(agent("coder0")) == "main"
    assert "most room: 80% of main/5h left" in desk.told[0]
    desk.pace.put("account:main/5h", 0.97)
    assert await desk.start(agent("coder0")) == "main", "it stays, though the other has more"
    assert len(desk.told) == 1
    desk.pace.put("account:main/5h", 1.0)
    assert await desk.start(agent("coder0")) == "spare"
    assert "moves from the account `main`, which is used up, to `spare`" in desk.told[1]
    desk.pace.put("account:main/5h", 0.0)
    assert await desk.start(agent("coder0")) == "spare", "and it does not move back"


async def test_a_family_of_models_has_windows_of_its_own(store: Store) -> None:
    desk = Desk(store, main=None, spare=None)
    desk.pace.put("account:main/7d_opus", 1.0)
    desk.pace.put("account:spare/7d", 0.9)
    assert await desk.start(agent("coder0")) == "spare"
    assert await desk.start(agent("coder1", model="haiku")) == "main"


async def test_no_more_sessions_than_at_once_says(store: Store) -> None:
    desk = Desk(store, main=2, spare=1)
    starts = [await desk.start(agent(f"coder{number}")) for number in range(3)]
    assert Counter(starts) == {"main": 2, "spare": 1}
    with pytest.raises(UserError, match=r"main \(2 of 2\), spare \(1 of 1\)"):
        await desk.start(agent("coder3"))
    async with store.read() as tx:
        assert await agents.get(tx, "coder3") is None
    assert await desk.start(agent("coder0")) == starts[0], "who has its place keeps it"


# --- launches ----------------------------------------------------------------------------------------------------

LADDER = "pacing: {ladder: [opus, sonnet, 'sim:tiny']}\nagents: {runtime: sim, sandbox: none}\n"


async def accounts_used(home: House, requests: int) -> set[str]:
    return {str(each.key) for each in await home.spent(requests, by="account")}


async def test_at_a_limit_a_new_session_begins_with_the_next_model_of_the_ladder(tmp_path: Path) -> None:
    async with house(tmp_path, settings=LADDER) as home, home.open():
        pace = paced(home)
        pace.put("account:sim/7d_opus", 1.0)
        answer = await home.ask("!launch coder0 --model opus")
        assert "starts with `sim:sonnet` instead of `opus`" in answer
        assert "7d_opus" in answer
        thread = await home.thread("coder0")
        told = await home.heard(thread, "↘️ It starts with `sim:sonnet` instead of `opus`")
        assert "budget authorize" not in told, "no leave passes a provider's own window"
        await home.heard(thread, "Ready")
        assert (await home.row()).model == "sonnet"
        entry = roster.load(home.paths.roster_yaml).get("coder0")
        assert entry is not None
        assert entry.model == "opus", "the roster keeps what was wanted"


@pytest.mark.parametrize(
    "ladder",
    [
        pytest.param("[opus, sonnet]", id="no runtime named"),
        pytest.param("[opus, sonnet, 'sim:tiny']", id="the runtime named as well"),
    ],
)
async def test_a_rung_without_a_runtime_is_of_the_runtime_that_the_roster_gives(tmp_path: Path, ladder: str) -> None:
    settings = f"pacing: {{ladder: {ladder}}}\nagents: {{sandbox: none}}\n"
    async with house(tmp_path, settings=settings) as home, home.open():
        home.paths.roster_yaml.write_text("version: 1\npreset: minimal\ndefaults: {runtime: sim}\nagents: []\n")
        paced(home).put("account:sim/7d_opus", 1.0)
        assert "starts with `sim:sonnet` instead of `opus`" in await home.ask("!launch coder0 --model opus")


@pytest.mark.slow
async def test_in_the_middle_of_a_conversation_the_model_stays_whatever_the_windows_say(tmp_path: Path) -> None:
    async with house(tmp_path, settings=LADDER) as home, home.open():
        pace = paced(home)
        pace.put("account:sim/7d_opus", 1.0)
        await home.ask("!launch coder0 --model opus")
        thread = await home.thread("coder0")
        await home.heard(thread, "Ready")
        await home.marks(home.say("hello", thread), "✅")
        assert (await home.row()).model == "sonnet"
        await home.ask("!stop coder0")
        await home.heard(thread, "Stopped")
        pace.put("account:sim/7d_opus", 0.0)
        pace.put("account:sim/7d_sonnet", 1.0)
        await home.ask("!launch coder0")
        assert (await home.row()).model == "opus"
        pace.put("account:sim/7d_opus", 1.0)
        await home.ask("!stop coder0 --now")
        await home.chat.until(lambda: sum("Stopped" in text for text in home.chat.texts(thread)) == 2, limit=30)
        held = await home.ask("!launch coder0")
        assert "⏳" in held
        assert "instead of" not in held
        assert (await home.row()).model == "opus"


async def test_where_no_rung_has_room_a_session_starts_all_the_same_and_says_when_there_is(tmp_path: Path) -> None:
    async with house(tmp_path, settings=LADDER) as home, home.open():
        paced(home).put("account:sim/7d", 1.0)
        answer = await home.ask("!launch coder0 --model opus")
        assert "⏳" in answer
        assert "Of the ladder neither `sim:sonnet` nor `sim:tiny` has room. There is room" in answer
        assert (await home.row()).model == "opus"


async def test_a_task_whose_agent_finds_no_rung_with_room_says_that_they_were_tried(tmp_path: Path) -> None:
    roster = "version: 1\npreset: minimal\nagents: [{name: coder0, role: coder, model: opus}]\n"
    async with house(tmp_path, settings=LADDER, roster=roster) as home, home.open():
        paced(home).put("account:sim/7d", 1.0)
        answer = await home.ask("!task add 'mend it' --agent coder0")
        assert "Of the ladder neither `sim:sonnet` nor `sim:tiny` has room." in answer


async def test_what_makes_room_for_a_session_as_it_was_wanted_is_a_whole_command(tmp_path: Path) -> None:
    async with house(tmp_path, settings=LADDER) as home, home.open():
        pace = paced(home)
        now = home.clock()
        pace.put("host/day", 150.0, unit="tokens", limit=1000.0, resets_at=now + 80_000.0, length_s=86_400.0)
        line = replace(pace.standings["host/day"].line, drawn_at=now, drawn_used=0.0)
        pace.standings["host/day"] = replace(pace.standings["host/day"], line=line)
        answer = await home.ask("!launch coder0")
        command = re.search(r"`!(budget authorize host (\d+) --for 1h)`", answer)
        assert command is not None, answer
        assert 1 <= int(command[2]) <= 150


async def test_the_pace_does_not_hold_what_a_person_launches_an_agent_for(tmp_path: Path) -> None:
    settings = f"{LADDER}budgets:\n  host: {{tokens: 200k, window: day}}\n"
    async with house(tmp_path, settings=settings) as home, home.open():
        answer = await home.ask("!launch coder0 --task '[[say: here it is]]'")
        assert "later" not in answer
        await home.heard(await home.thread("coder0"), "here it is")


async def test_what_it_is_launched_for_waits_until_there_is_room(tmp_path: Path) -> None:
    async with house(tmp_path, settings=LADDER) as home, home.open() as orchestrator:
        pace = paced(home)
        pace.put("account:sim/7d", 1.0)
        answer = await home.ask("!launch coder0 --model opus --task '[[say: here it is]]'")
        assert "⏳ coder0 reads this later (task" in answer
        assert "it needs more than is left of a limit that nothing may pass." in answer
        thread = await home.thread("coder0")
        await home.heard(thread, "Ready")
        assert "here it is" not in "".join(home.chat.texts(thread))
        pace.put("account:sim/7d", 0.1)
        orchestrator.services.dispatcher.opened()
        await home.heard(thread, "here it is")
        assert sum("here it is" in text for text in home.chat.texts(thread)) == 1


@pytest.mark.slow
async def test_an_agent_stays_on_its_account_over_a_restart_until_that_is_used_up(tmp_path: Path) -> None:
    async with house(tmp_path, settings="agents: {runtime: sim, sandbox: none}\n") as home:
        text = home.paths.muster_yaml.read_text()
        account = next(line for line in text.splitlines() if line.startswith("  sim: {provider"))
        home.paths.muster_yaml.write_text(text.replace(account, f"{account}\n{account.replace('sim:', 'spare:', 1)}"))
        async with home.open():
            pace = paced(home)
            pace.put("account:sim/5h", 0.6)
            pace.put("account:spare/5h", 0.1)
            thread = await home.launch("coder0")
            await home.heard(thread, "It is on the account `spare`: most room: 90% of spare/5h left")
            await home.marks(home.say("hello", thread), "✅")
            assert await accounts_used(home, 1) == {"spare"}
            pace.put("account:spare/5h", 0.8)
            await home.ask("!restart coder0")
            await home.heard(thread, "going on with its conversation")
            await home.marks(home.say("again", thread), "✅")
            assert await accounts_used(home, 2) == {"spare"}
            pace.put("account:spare/5h", 1.0)
            await home.ask("!restart coder0")
            await home.heard(thread, "moves from the account `spare`, which is used up, to `sim`")
            await home.marks(home.say("and again", thread), "✅")
            assert await accounts_used(home, 3) == {"spare", "sim"}


async def test_an_account_that_does_not_serve_a_role_is_not_used_for_it(tmp_path: Path) -> None:
    async with house(tmp_path, settings="agents: {runtime: sim, sandbox: none}\n") as home:
        text = home.paths.muster_yaml.read_text()
        home.paths.muster_yaml.write_text(
            text.replace("credential: 'env:KEY'", "credential: 'env:KEY', serves: {roles: [research]}")
        )
        async with home.open():
            refused = await home.ask("!launch coder0")
            assert "No account of muster.yaml serves the role coder with the runtime sim: sim" in refused
            assert "`serves`" in refused
            assert "starts in its thread" in await home.ask("!launch seeker --role research")
