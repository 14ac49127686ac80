"""The real agents, through Muster's own agent host, their models played by the simulated provider.

Claude Code and Codex are pinned in package.json. opencode and pi (with the Node.js that it needs) weigh 350 and 290 MB
more, so they are tested only where somebody installed them in this folder:
``npm install --no-save opencode-ai@1.18.33 pi-acp@0.0.34 @earendil-works/pi-coding-agent@0.87.1 node@22``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import aiohttp
import psutil
import pytest

from fleet import lifecycle, runtimes, sandbox
from fleet.errors import FleetError
from fleet.events import PermissionAsked, RuntimeStarted, TextChunk, TurnAccepted, TurnEnded
from fleet.sim.provider import Provider, running
from tests.agents import hostile
from tests.fleet.agents import Agent, status_when
from tests.fleet.agents import until as seen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from fleet.control import AgentLink

PROGRAMS = Path(__file__).parent / "node_modules" / ".bin"

pytestmark = [
    pytest.mark.agents,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not PROGRAMS.is_dir(), reason="the agents are not installed: make test-agents installs them"),
]

E = TypeVar("E")

#: Real agents take their time on a busy machine.
LIMIT_S = 120.0

#: A command that each of them asks about before it runs it.
ASKING = {
    "claude": '[[tool: Bash {"command": "touch made && echo it is made"}]]',
    "codex": (
        '[[tool: exec_command {"cmd": "touch made && echo it is made", "sandbox_permissions": "require_escalated", '
        '"justification": "It is needed."}]]'
    ),
    "opencode": '[[tool: bash {"command": "touch made && echo it is made", "description": "Make it."}]]',
    "pi": '[[tool: bash {"command": "touch made && echo it is made"}]]',
}


@dataclass
class Account:
    provider: str
    base_url: str | None

    @property
    def secret(self) -> Callable[[], str | None]:
        return lambda: "sk-ant-api03-for-nobody"


@dataclass
class Real:
    """A real agent and the provider that it asks."""

    name: str
    box: str
    agent: Agent
    provider: Provider
    sent: int = field(default=0)

    @property
    def workspace(self) -> Path:
        return Path(self.agent.spec.workspace)

    def prepare(self) -> None:
        runtime = runtimes.RUNTIMES[self.name]
        provider = runtime.providers[0]
        home = self.agent.folder / "home"
        home.mkdir(exist_ok=True)
        prepared = runtimes.prepare(
            runtime,
            agent="coder0",
            home=home,
            workspace=self.workspace,
            model=None,
            account=Account(provider, self.provider.url + ("/v1" if provider == "openai" else "")),
            sandboxed=self.box != "none",
            which=lambda name: shutil.which(name, path=f"{PROGRAMS}:{os.environ['PATH']}"),
        )
        command = prepared.command
        if self.box == "bubblewrap":
            command = sandbox.wrap(prepared, workspace=self.workspace, home=home, hidden=(self.agent.folder,))
        self.agent.spec = replace(
            self.agent.spec,
            runtime=self.name,
            sandbox=self.box,
            command=command,
            environment=prepared.environment,
            adapter=runtime.adapter,
            child_names=runtime.child_names,
            session_meta=prepared.session_meta,
            session_mode=prepared.session_mode,
            hints=prepared.hints,
            heartbeat_s=1.0,
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[AgentLink]:
        async with self.agent.running() as link:
            yield link
        assert self.agent.left_over() == []

    async def send(self, link: AgentLink, text: str) -> str:
        self.sent += 1
        await link.send(id=f"m{self.sent}", text=text)
        return f"m{self.sent}"

    async def ended(self, link: AgentLink, message: str) -> TurnEnded:
        return await until(link, TurnEnded, lambda event: event.message == message)

    async def turn(self, link: AgentLink, text: str) -> str:
        """What the agent said."""
        ended = await self.ended(link, await self.send(link, text))
        assert (ended.stop_reason, ended.detail) == ("end_turn", None)
        return "".join(event.text for event in self.agent.events(TextChunk) if event.turn == ended.turn)


async def until(link: AgentLink, kind: type[E], found: Callable[[E], bool] = lambda _: True) -> E:
    """The first event of this kind that `found` accepts."""
    return await seen(link, kind, found, limit=LIMIT_S)


async def allow(link: AgentLink, asked: PermissionAsked) -> str:
    option = next(option["id"] for option in asked.options if option["kind"] == "allow_once")
    return await link.answer(
        incarnation=link.hello.incarnation,
        session=asked.session,
        request=asked.request,
        digest=asked.digest,
        option=option,
        by="ana",
    )


@pytest.fixture(params=["claude", "codex", "opencode", "pi"])
def name(request: pytest.FixtureRequest) -> str:
    if request.param in {"opencode", "pi"} and not (PROGRAMS / request.param).exists():
        pytest.skip(f"tried by hand: {request.param} is not installed; see the head of this file")
    return str(request.param)


@pytest.fixture(params=["bubblewrap", "none"])
async def real(request: pytest.FixtureRequest, name: str, tmp_path: Path) -> AsyncIterator[Real]:
    if request.param == "bubblewrap" and not shutil.which("bwrap"):
        pytest.skip("bubblewrap is not installed")
    async with running() as provider:
        real = Real(name, request.param, Agent.make(tmp_path), provider)
        real.prepare()
        yield real


async def test_talks_asks_before_it_acts_and_does_what_was_allowed(real: Real) -> None:
    async with real.running() as link:
        assert "You said: Good morning." in await real.turn(link, "Good morning.")
        message = await real.send(link, ASKING[real.name])
        asked = await until(link, PermissionAsked)
        assert "touch made" in asked.detail
        assert not (real.workspace / "made").exists()
        await allow(link, asked)
        assert (await real.ended(link, message)).stop_reason == "end_turn"
        assert (real.workspace / "made").exists()
        assert "it is made" in "".join(event.text for event in real.agent.events(TextChunk))
    asked_of_the_model = [entry for entry in real.provider.ledger.entries if entry.text == "Good morning."]
    assert len([entry for entry in asked_of_the_model if entry.tools]) == 1


async def test_answers_the_heartbeat_in_the_middle_of_a_turn_and_can_be_cancelled(real: Real) -> None:
    async with real.running() as link:
        message = await real.send(link, "[[say: Half of it.]][[hang]]")
        await until(link, TurnAccepted, lambda event: event.message == message)
        began = (await link.status()).turn_started_at
        assert began is not None
        child = "running" if runtimes.RUNTIMES[real.name].adapter else None
        status = await status_when(link, lambda now: (now.pinged_at or 0) > began and now.child == child)
        assert (status.state, status.adapter) == ("working", child is not None)
        assert (await link.cancel()).cancelled
        assert (await real.ended(link, message)).stop_reason == "cancelled"
        assert "You said: And now?" in await real.turn(link, "And now?")


async def kept(real: Real, session: str) -> None:
    """Wait until the runtime has written its session down: Claude Code does so a little later."""
    if real.name == "opencode":
        return  # It has a database, and writes there first.
    async with asyncio.timeout(30):
        while not any(path.stat().st_size for path in (real.agent.folder / "home").rglob(f"*{session}*.jsonl")):
            await asyncio.sleep(0.05)


async def test_goes_on_with_its_session_after_everything_of_it_was_killed(real: Real) -> None:
    async with real.running() as link:
        await real.turn(link, "Remember the number 4711.")
        (first,) = real.agent.events(RuntimeStarted)
        assert not first.loaded
        await kept(real, first.session)
        host = psutil.Process(link.hello.pid)
        host.kill()
        psutil.wait_procs([host], timeout=30)
    lifecycle.clear_away(real.agent.folder)
    before = real.provider.ledger.entries[-1].number
    async with real.running() as link:
        assert "You said: What was it?" in await real.turn(link, "What was it?")
        _, second = real.agent.events(RuntimeStarted)
        assert (second.loaded, second.session) == (True, first.session), second.note
    later = [e for e in real.provider.ledger.entries if e.number > before and e.text == "What was it?"]
    assert later


async def test_a_hostile_repository_runs_nothing_and_allows_itself_nothing(real: Real, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    hostile.repository(real.workspace, outside)
    hostile.granting(real.agent.folder / "home", real.workspace)
    if real.name == "opencode":
        with pytest.raises(FleetError, match=r"look at .*/\.opencode/plugin"):
            real.prepare()
        hostile.remove_plugins(real.workspace)
    real.prepare()
    async with real.running() as link:
        await real.turn(link, "Good morning.")
        message = await real.send(link, ASKING[real.name])
        asked = await until(link, PermissionAsked)
        assert not (real.workspace / "made").exists()
        await allow(link, asked)
        await real.ended(link, message)
        await real.turn(link, "Good night.")
    assert (real.workspace / "made").exists()
    assert hostile.traces_in(real.workspace, outside) == []


async def test_nobody_else_can_answer_through_a_door_that_it_opens(real: Real) -> None:
    async with real.running() as link:
        message = await real.send(link, ASKING[real.name])
        asked = await until(link, PermissionAsked)
        doors = {
            connection.laddr.port
            for process in psutil.Process(link.hello.pid).children(recursive=True)
            for connection in process.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN
        }
        assert bool(doors) == (real.name == "opencode"), "a door that nobody looked at"
        async with aiohttp.ClientSession() as stranger:
            for door in doors:
                for path in ("permission", "session", "config"):
                    async with stranger.get(f"http://127.0.0.1:{door}/{path}") as answer:
                        assert answer.status == 401
        assert not (real.workspace / "made").exists()
        await allow(link, asked)
        assert (await real.ended(link, message)).stop_reason == "end_turn"


@pytest.mark.parametrize("name", ["opencode"], indirect=True)  # the others' subagents ask the operator
async def test_a_subagent_waits_for_no_answer_that_cannot_come(real: Real) -> None:
    order = '[[tool: task {"description": "d", "prompt": "[[run: touch made]]", "subagent_type": "general"}]]'
    async with real.running() as link:
        await real.turn(link, order)
    assert not (real.workspace / "made").exists()
