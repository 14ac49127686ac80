"""A run begins, is answered, and ends once; its agent is frozen, and can go on."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from core.crash_points import declare
from database.queries.agents import runs
from database.queries.agents.runs import AgentRun
from fleet.journal import reader
from fleet.journal.events import TurnEnded
from fleet.supervision import host_lifecycle
from tests.bot.orchestrator import OPERATOR, House, house

STEP = declare("tests.run_service")
SETTINGS = "agents: {runtime: sim, sandbox: none}\n"


async def ended(home: House, agent: str, *, states: tuple[str, ...] = ()) -> AgentRun:
    """The newest run of an agent, once it has ended (or is in one of the states)."""
    async with asyncio.timeout(30):
        while True:
            async with home.orchestrator.store.read() as tx:
                found = [*await runs.open_ones(tx, agent=agent), *await runs.last_ended(tx, limit=20)]
            run = next((each for each in found if each.agent == agent), None)
            if run is not None and (run.state in states if states else run.state not in runs.OPEN):
                return run
            await asyncio.sleep(0.02)


async def test_a_run_is_answered_counted_and_leaves_its_agent_frozen(tmp_path: Path) -> None:
    async with house(tmp_path, settings=SETTINGS) as home, home.open():
        said = await home.ask('!run coder --prompt "[[say: it is 42]] what is it?" --color cyan')
        assert "begins with the agent coder" in said
        run = await ended(home, "coder")
        assert (run.state, run.answer, run.color) == ("done", "it is 42", "cyan")
        assert run.tokens is not None
        assert run.tokens > 0
        row = await home.row("coder")
        assert (row.wanted, row.purpose) == ("frozen", f"[cyan] run {run.id}")
        # No roster has the agents of runs.
        assert not home.paths.roster_yaml.exists()
        await home.heard(await home.thread("coder"), f"Run `{run.id}` is done")
        shown = await home.ask(f"!runs {run.id}")
        assert "it is 42" in shown
        assert run.id in await home.ask("!runs")
        assert "runs stop" not in shown
        assert "coder [cyan]" in await home.ask("!ps --all")

        again = await home.ask('!run --resume coder --prompt "[[say: still 42]]"')
        assert "goes on with" in again
        second = await ended(home, "coder", states=("running", "queued"))
        assert second.id != run.id
        second = await ended(home, "coder")
        assert (second.state, second.answer) == ("done", "still 42")


async def test_a_name_that_is_taken_gets_a_number_and_the_answer_says_so(tmp_path: Path) -> None:
    async with house(tmp_path, settings=SETTINGS) as home, home.open():
        await home.launch("coder")
        said = await home.ask('!run coder --prompt "[[say: one]]"')
        assert "The name coder is taken" in said
        assert (await ended(home, "coder-2")).answer == "one"
        await home.ask('!run coder --prompt "[[say: two]]"')
        assert (await ended(home, "coder-3")).answer == "two"


async def test_its_time_is_kept_without_anybody_who_waits(tmp_path: Path) -> None:
    async with house(tmp_path, settings=SETTINGS) as home, home.open():
        await home.ask('!run coder --prompt "[[wait: never]]" --timeout 1s')
        run = await ended(home, "coder")
        assert (run.state, run.answer) == ("timed_out", "")
        assert (await home.row("coder")).wanted == "frozen"
        retried = await home.ask(f"!runs retry {run.id}")
        assert "coder-2" in retried
        await ended(home, "coder-2")


async def test_a_run_can_be_stopped(tmp_path: Path) -> None:
    async with house(tmp_path, settings=SETTINGS) as home, home.open():
        await home.ask('!run coder --prompt "[[wait: never]]"')
        run = await ended(home, "coder", states=("running",))
        assert "is stopped" in await home.ask(f"!runs stop {run.id[:6]}")
        assert (await ended(home, "coder")).state == "stopped"
        assert "is over" in await home.ask(f"!runs stop {run.id}")


async def test_a_budget_ends_it_as_a_limit(tmp_path: Path) -> None:
    async with house(tmp_path, settings=SETTINGS) as home, home.open():
        await home.ask('!run coder --prompt "[[say: too much]]" --budget 10')
        run = await ended(home, "coder")
        assert (run.state, run.answer) == ("limit", "")


async def test_what_cannot_begin_is_refused_before_anything_is_begun(tmp_path: Path) -> None:
    async with house(tmp_path, settings=SETTINGS) as home, home.open():
        assert "Did you mean 'coder'" in await home.ask("!run codr --prompt x")
        assert "--prompt is missing" in await home.ask("!run coder")
        assert "No sandbox is called 'bubblewarp'" in await home.ask("!run coder --prompt x --sandbox bubblewarp")
        assert "No agent is called" in await home.ask("!run --resume ghost --prompt x")
        event = home.chat.post("!run coder --prompt x --sandbox none", sender=OPERATOR)
        assert "only an admin" in (await home.reply(event)).text
        event = home.chat.post("!run coder --prompt x --sandbox bubblewrap+bubblewrap", sender=OPERATOR)
        assert "only an admin joins them" in (await home.reply(event)).text
        event = home.chat.post("!run coder --prompt x --workspace /", sender=OPERATOR)
        assert "only an admin chooses one" in (await home.reply(event)).text
        async with home.orchestrator.store.read() as tx:
            assert await runs.open_ones(tx) == []
            assert await runs.last_ended(tx, limit=1) == []


async def test_a_restart_changes_nothing_about_a_run(tmp_path: Path) -> None:
    async with house(tmp_path, settings=SETTINGS) as home:
        async with home.open():
            await home.ask('!run coder --prompt "[[say: before]] [[wait: gate]] [[say: and after]]"')
            await ended(home, "coder", states=("running",))
            await home.heard_from("coder")
        # The agent host goes on, and its turn ends while nobody looks.
        home.models.release("gate")
        async with home.open():
            run = await ended(home, "coder")
            assert run.state == "done"
            assert (run.answer or "").split() == ["before", "and", "after"]
            assert (await home.row("coder")).wanted == "frozen"


async def test_its_time_passes_while_the_orchestrator_is_away(tmp_path: Path) -> None:
    async with house(tmp_path, settings=SETTINGS) as home:
        async with home.open():
            await home.ask('!run coder --prompt "[[wait: never]]" --timeout 3s')
            await ended(home, "coder", states=("running",))
        async with home.open():
            assert (await ended(home, "coder")).state == "timed_out"


async def test_an_agent_host_that_is_killed_fails_its_run_once(tmp_path: Path) -> None:
    async with house(tmp_path, settings=SETTINGS) as home, home.open():
        await home.ask('!run coder --prompt "[[wait: never]]"')
        await ended(home, "coder", states=("running",))
        await home.heard_from("coder")
        await home.heard(await home.thread("coder"), "Ready")
        async with asyncio.timeout(30):
            while home.orchestrator.agents.turn_of("coder") is None:
                await asyncio.sleep(0.02)
        await host_lifecycle.kill(home.paths.agent_folder("coder"))
        run = await ended(home, "coder")
        assert (run.state, run.answer) == ("failed", "")
        assert (await home.row("coder")).wanted == "frozen"


async def test_an_agent_of_the_roster_is_used_itself_unless_it_runs(tmp_path: Path) -> None:
    roster = "preset: minimal\nagents:\n  - {name: coder0, role: coder, runtime: sim, sandbox: none}\n"
    async with house(tmp_path, settings=SETTINGS, roster=roster) as home, home.open():
        await home.ask('!run coder0 --prompt "[[say: myself]]"')
        assert (await ended(home, "coder0")).answer == "myself"
        assert (await home.row("coder0")).purpose is None
        said = await home.ask('!run coder0 --prompt "[[say: another]]"')
        assert "The name coder0 is taken" in said
        assert (await ended(home, "coder0-2")).answer == "another"
        assert (await home.row("coder0-2")).role == "coder"


async def test_a_task_for_a_running_agent_is_handed_over_and_never_dropped(tmp_path: Path) -> None:
    async with house(tmp_path, settings=SETTINGS) as home, home.open():
        thread = await home.launch("coder0")
        said = await home.ask('!launch coder0 --task "[[say: did it]]"')
        assert "its task went as a message" in said
        await home.heard(thread, "did it")
        await home.ask("!freeze coder0")
        assert "is frozen" in await home.ask('!launch coder0 --task "[[say: lost?]]"')
        await home.ask('!run coder --prompt "[[wait: never]]"')
        await ended(home, "coder", states=("running",))
        assert "nothing was changed" in await home.ask("!launch coder --task more")


async def test_an_agent_that_somebody_else_wrote_to_is_not_frozen(tmp_path: Path) -> None:
    async with house(tmp_path, settings=SETTINGS) as home, home.open():
        await home.ask('!run coder --prompt "[[say: mine]] [[wait: gate]]"')
        await ended(home, "coder", states=("running",))
        await home.ask('!send coder "[[say: yours]] [[wait: other]]"')
        home.models.release("gate")
        assert (await ended(home, "coder")).state == "done"
        assert (await home.row("coder")).wanted == "running"
        home.models.release("other")
        await home.heard(await home.thread("coder"), "yours")


async def test_a_turn_that_ended_in_time_while_nobody_looked_did_not_time_out(tmp_path: Path) -> None:
    async with house(tmp_path, settings=SETTINGS) as home:
        async with home.open():
            await home.ask('!run coder --prompt "[[wait: gate]] [[say: in time]]" --timeout 1h')
            await ended(home, "coder", states=("running",))
            await home.heard_from("coder")
        home.models.release("gate")
        folder = home.paths.agent_folder("coder")
        async with asyncio.timeout(30):
            while not any(isinstance(each.event, TurnEnded) for each in reader.read_last(folder, 5)):
                await asyncio.sleep(0.02)
        home.clock = lambda: time.time() + 7200
        async with home.open():
            assert (await ended(home, "coder")).state == "done"


async def test_a_resumed_run_never_lifts_what_a_person_gave_an_agent(tmp_path: Path) -> None:
    async with house(tmp_path, settings=SETTINGS) as home, home.open():
        await home.launch("coder0", "--budget", "1M")
        for budget, holds in (("5M", "1000000"), ("2k", "2000"), ("", "1000000"), ("3k", "3000")):
            await home.ask("!freeze coder0")
            given = f"--budget {budget}" if budget else ""
            await home.ask(f'!run --resume coder0 --prompt "[[wait: {holds}{budget}]]" {given}')
            run = await ended(home, "coder0", states=("running",))
            basis = (await home.row("coder0")).basis
            assert basis is not None
            assert basis["said"]["budget"] == holds
            await home.ask(f"!runs stop {run.id}")
            assert (await ended(home, "coder0")).id == run.id


async def test_joined_profiles_are_for_runs_and_their_pools_hold_together(tmp_path: Path) -> None:
    more = (
        "sandboxes:\n  web: {routes: docs.python.org}\n  data: {memory: 2 GB, pool: {tokens: 10}}\n"
        "  shut: {memory: 1 GB}\n"
    )
    async with house(tmp_path, settings=SETTINGS + more) as home, home.open():
        said = await home.ask("!launch coder0 --runtime sim --sandbox web+data")
        assert "joins sandbox profiles" in said
        await home.ask('!run coder --prompt "[[say: both]]" --sandbox web+shut')
        run = await ended(home, "coder")
        assert (run.state, run.answer) == ("done", "both"), run.detail
        assert (await home.row("coder")).sandbox == "web+shut"
        await home.ask('!run --resume coder --prompt "[[say: again]]"')
        assert (await ended(home, "coder", states=("running", "done"))).resumes
        # The pool of one of them is used up at once.
        await home.ask('!run coder --name poor --prompt "[[say: too much]]" --sandbox data+web')
        assert (await ended(home, "poor")).state == "limit"


async def test_a_run_that_cannot_be_looked_at_keeps_no_other_from_beginning(tmp_path: Path) -> None:
    async with house(tmp_path, settings=SETTINGS) as home, home.open():
        async with home.orchestrator.store.write(STEP) as tx:
            broken = AgentRun(
                id="0000aaaa", source="cli", agent="broken", role="coder", prompt="x", settings={"asked": 5},
                asked_by="i", connector="memory", room="room", state="queued", message="m", created_at=1.0,
            )  # fmt: skip
            await runs.add(tx, broken)
        await home.ask('!run coder --prompt "[[say: one]]"')
        assert (await ended(home, "coder")).answer == "one"
        assert "0000aaaa" in await home.ask("!runs stop 0000aaaa")
        assert (await ended(home, "broken")).state == "stopped"
