"""What a person notices of a handover, with the built-in agent on a real agent host, in its sandbox."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fleet.control.agent_host_client import AgentLink
from fleet.control.terminal_frames import TerminalSize
from fleet.errors import AgentRefused, AgentUnreachable
from fleet.journal.events import HandedBack, HandedOver, RuntimeFailed, RuntimeStarted, TurnEnded, TurnStarted
from fleet.sim.provider.server import Provider, running
from fleet.supervision import host_lifecycle, process_sweep
from tests import waiting
from tests.fleet.host.handover.terminals import at_terminal, built_in, said
from tests.fleet.host.scripted_agent import Agent, gone, status_when, until


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with running() as provider:
        yield provider


@pytest.fixture(params=["none", "bubblewrap"])
def agent(request: pytest.FixtureRequest, provider: Provider, tmp_path: Path) -> Agent:
    if request.param == "bubblewrap" and not shutil.which("bwrap"):
        pytest.skip("bubblewrap is not installed")
    return built_in(tmp_path, provider, request.param)


@pytest.fixture
def plain(provider: Provider, tmp_path: Path) -> Agent:
    return built_in(tmp_path, provider, "none")


@contextlib.asynccontextmanager
async def ready(agent: Agent) -> AsyncIterator[AgentLink]:
    async with agent.running() as link:
        await status_when(link, lambda status: status.state == "idle")
        if agent.spec.runtime == "sim" and not agent.events(TurnEnded):
            # Before that there is nothing to go on with.
            await said(link, agent, "m0", "Good morning.")
        yield link
    assert agent.left_over() == []


async def test_what_was_said_in_the_terminal_is_part_of_the_conversation(agent: Agent) -> None:
    async with ready(agent) as link:
        await said(link, agent, "m1", "Remember apple.")
        async with at_terminal(agent) as screen:
            await screen.expect("Remember apple.")
            await screen.expect("/quit leaves")
            status = await link.status()
            assert (status.state, status.terminal_by) == ("working", "ana")
            assert status.terminal_since is not None
            await screen.type("Remember pear.\r")
            await screen.expect("You said: Remember pear.")
            await screen.type("/quit\r")
            assert "exit code 0" in await screen.ended()
        await said(link, agent, "m2", "What now?")
        assert (await link.status()).terminal_by is None
    first, second = agent.events(RuntimeStarted)
    assert (second.session, second.loaded) == (first.session, True)
    (over,), (back,) = agent.events(HandedOver), agent.events(HandedBack)
    assert (over.by, over.session, back.by) == ("ana", first.session, "ana")
    stored = next((agent.folder / "home" / ".muster-sim" / "sessions").glob("*.json")).read_text()
    assert stored.index("apple") < stored.index("pear") < stored.index("What now?")


async def test_the_program_runs_in_a_terminal_of_its_own_whose_size_follows(agent: Agent) -> None:
    async with ready(agent) as link:
        async with at_terminal(agent) as screen:
            await screen.expect("/quit leaves")
            await screen.link.send(TerminalSize(31, 101))
            await screen.expect("[31 rows, 101 columns]")
            await screen.type("[[run: echo TERM=$TERM SECRET=$SECRET LD=$LD_PRELOAD]]\r")
            await screen.expect("[y/N]")
            await screen.type("y\r")
            await screen.expect("TERM=xterm-256color SECRET= LD=")
            await screen.type("\x04")
            await screen.ended()
        await said(link, agent, "m1", "Hello.")


async def test_messages_wait_until_the_agent_is_back(plain: Agent) -> None:
    async with ready(plain) as link:
        async with at_terminal(plain) as screen:
            await screen.expect("/quit leaves")
            assert (await link.send("m1", "Later.")).state == "journaled"
            assert (await link.send("m2", "Sooner.", mode="steer")).state == "journaled"
            assert (await link.status()).queued == 2
            await screen.type("In between.\r")
            await screen.expect("You said: In between.")
            assert [event.message for event in plain.events(TurnStarted)] == ["m0"]
            await screen.type("/quit\r")
            await screen.ended()
        await until(link, TurnEnded, lambda event: event.message == "m1")
    assert [event.message for event in plain.events(TurnEnded)] == ["m0", "m2", "m1"]


async def test_a_running_turn_is_cancelled_only_if_that_was_said(plain: Agent) -> None:
    async with ready(plain) as link:
        await link.send("m1", "[[wait: later]]")
        await until(link, TurnStarted, lambda event: event.message == "m1")
        with pytest.raises(AgentRefused) as refusal:
            async with at_terminal(plain):
                pass
        assert refusal.value.refusal == "turn_open"
        assert (await link.status()).turn is not None
        async with at_terminal(plain, now=True) as screen:
            await screen.expect("/quit leaves")
            await screen.type("/quit\r")
            await screen.ended()
        _, ended = plain.events(TurnEnded)
        assert ended.stop_reason == "cancelled"
        await said(link, plain, "m2", "Hello.")


async def test_only_one_person_has_it(plain: Agent) -> None:
    async with ready(plain), at_terminal(plain) as screen:
        await screen.expect("/quit leaves")
        with pytest.raises(AgentRefused, match="ana") as refusal:
            async with at_terminal(plain, by="bob", now=True):
                pass
        assert refusal.value.refusal == "handed_over"
        await screen.type("Still here?\r")
        await screen.expect("You said: Still here?")


async def test_a_closed_terminal_gives_the_agent_back(agent: Agent) -> None:
    async with ready(agent) as link:
        async with at_terminal(agent) as screen:
            await screen.expect("/quit leaves")
            await screen.type("Remember pear.\r")
            await screen.expect("You said: Remember pear.")
        back = await until(link, HandedBack)
        assert back.reason == "The terminal was closed."
        await said(link, agent, "m1", "What now?")
    assert [event.loaded for event in agent.events(RuntimeStarted)] == [False, True]


async def test_the_program_ends_with_its_agent_host_and_the_next_one_says_so(agent: Agent) -> None:
    async with ready(agent) as link:
        async with at_terminal(agent) as screen:
            await screen.expect("/quit leaves")
            os.kill(link.hello.pid, signal.SIGKILL)
            with pytest.raises(AgentUnreachable, match="went away"):
                await screen.ended()
        await gone(agent)
        await waiting.until(lambda: not agent.left_over())
    async with ready(agent) as link:
        (back,) = agent.events(HandedBack)
        assert back.by == "ana"
        await said(link, agent, "m1", "Hello.")
    assert agent.events(RuntimeStarted)[-1].loaded


async def test_ending_the_agent_now_ends_the_program(agent: Agent) -> None:
    async with ready(agent) as link, at_terminal(agent) as screen:
        await screen.expect("/quit leaves")
        await link.shutdown(now=True, reason="frozen")
        assert await screen.ended() == "The agent was told to end."
    (back,) = agent.events(HandedBack)
    assert back.reason == "The agent was told to end."


async def test_ending_the_agent_otherwise_waits_for_the_person(plain: Agent) -> None:
    async with ready(plain) as link, at_terminal(plain) as screen:
        await screen.expect("/quit leaves")
        task = asyncio.ensure_future(link.shutdown(reason="frozen"))
        await screen.type("Still here?\r")
        await screen.expect("You said: Still here?")
        assert not task.done()
        await screen.type("/quit\r")
        await screen.ended()
        await task
    assert len(plain.events(RuntimeStarted)) == 1


async def test_what_stops_itself_goes_on(plain: Agent) -> None:
    async with ready(plain) as link, at_terminal(plain) as screen:
        await screen.expect("/quit leaves")
        pid = (await link.status()).runtime_pid
        assert pid is not None
        deepest = [pid, *(each.pid for each in process_sweep.descendants(pid))][-1]
        os.kill(deepest, signal.SIGSTOP)
        await screen.type("Still here?\r")
        await screen.expect("You said: Still here?")


async def test_a_runtime_without_a_known_terminal_program_stays_as_it_is(tmp_path: Path) -> None:
    agent = Agent.make(tmp_path)
    async with ready(agent) as link:
        with pytest.raises(AgentRefused) as refusal:
            async with at_terminal(agent):
                pass
        assert refusal.value.refusal == "no_terminal"
        await link.send("m1", "say=hello")
        await until(link, TurnEnded)


async def test_a_program_that_cannot_be_started_gives_the_agent_back(plain: Agent) -> None:
    plain.launch(terminal=("/no/such/program", "{session}"))
    async with ready(plain) as link:
        with pytest.raises(AgentRefused, match="/no/such/program") as refusal:
            async with at_terminal(plain):
                pass
        assert refusal.value.refusal == "terminal_failed"
        await said(link, plain, "m1", "Hello.")
    assert plain.events(HandedOver) == []


async def test_before_the_first_message_there_is_nothing_to_go_on_with(plain: Agent) -> None:
    async with plain.running() as link:
        await status_when(link, lambda status: status.state == "idle")
        with pytest.raises(AgentRefused) as refusal:
            async with at_terminal(plain):
                pass
        assert refusal.value.refusal == "no_session"


async def test_a_question_on_the_side_waits_for_the_end(provider: Provider, tmp_path: Path) -> None:
    agent = built_in(tmp_path, provider, "none")
    agent.launch(aside=True)
    async with ready(agent) as link:
        async with at_terminal(agent) as screen:
            await screen.expect("/quit leaves")
            with pytest.raises(AgentRefused, match="ana has it in a terminal"):
                await link.ask_aside("q1", "Why?")
            await screen.type("/quit\r")
            await screen.ended()
        await until(link, RuntimeStarted, lambda event: event.loaded)
        assert await link.ask_aside("q2", "Why?") == "asked"


async def test_a_program_that_reads_nothing_does_not_hide_that_its_person_is_gone(plain: Agent) -> None:
    plain.launch(terminal=("/bin/sh", "-c", "stty raw -echo; echo ready; exec sleep 1000", "{session}"))
    async with ready(plain) as link:
        async with at_terminal(plain) as screen:
            await screen.expect("ready")
            # More than a terminal keeps of what nobody reads.
            await screen.type("x" * 2**21)
        back = await until(link, HandedBack)
        assert back.reason == "The terminal was closed."
        await said(link, plain, "m1", "Hello.")


async def test_what_the_agent_left_for_a_start_of_opencode_is_found_before_each(plain: Agent) -> None:
    """The built-in agent stands for opencode, whose home and workspace the agent host looks at."""
    plain.launch(runtime="opencode")
    plugin = Path(plain.spec.workspace) / ".opencode" / "plugins" / "evil.js"
    program = plain.folder / "home" / ".cache" / "opencode" / "bin" / "rg"
    async with ready(plain) as link:
        await said(link, plain, "m0", "Good morning.")
        plugin.parent.mkdir(parents=True)
        plugin.touch()
        with pytest.raises(AgentRefused, match=re.escape(f"look at {plugin}")) as refusal:
            async with at_terminal(plain):
                pass
        assert refusal.value.refusal == "terminal_failed"
        await said(link, plain, "m1", "Still here?")
        plugin.unlink()
        program.parent.mkdir(parents=True)
        program.touch()
        async with at_terminal(plain) as screen:
            await screen.expect("/quit leaves")
            assert not program.exists()
            plugin.touch()
            await screen.type("/quit\r")
            await screen.ended()
        failed = await until(link, RuntimeFailed)
        assert f"look at {plugin}" in failed.reason
    # As a machine does that starts it after a boot: the orchestrator did not look.
    await host_lifecycle.spawn(plain.launch())
    await gone(plain)
    assert len(plain.events(RuntimeFailed)) == 2
