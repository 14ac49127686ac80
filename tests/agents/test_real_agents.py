"""The real agents, through Muster's own agent host and its egress, their models played by the simulated provider.

In bubblewrap the egress is all that they reach; without a sandbox they are pointed at it. After each scene the books of
both sides are laid beside each other.

All of them are pinned in package.json, with the Node.js that pi needs. opencode's program and Node.js come from the
packages for Linux on x86-64, so opencode and pi are tested only there.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import psutil
import pytest

from egress.http.response_writer import ResponseWriter
from egress.ledger.model import LedgerEntry
from egress.settings import AgentRegistration, LimitSettings
from fleet import runtimes, sandbox
from fleet.control.agent_host_client import AgentLink
from fleet.errors import FleetError
from fleet.journal.events import (
    AsideEnded,
    PermissionAsked,
    RuntimeStarted,
    TextChunk,
    TurnAccepted,
    TurnEnded,
    TurnStarted,
)
from fleet.launch import model_access
from fleet.runtimes import Prepared, kept_sessions
from fleet.sandbox.egress_grant import TURN_FILE, EgressGrant
from fleet.sim.provider.server import Provider
from fleet.supervision import host_lifecycle, process_sweep
from tests.agents import hostile
from tests.egress.whole_egress import KEY, Plane, plane
from tests.fleet.host.scripted_agent import Agent, status_when
from tests.fleet.host.scripted_agent import until as seen

PROGRAMS = Path(__file__).parent / "node_modules" / ".bin"
#: The package of opencode's program itself: of `opencode-ai`, some registries lack the programs for other machines, and
#: then `npm ci` refuses its lock file.
OPENCODE = PROGRAMS.parent / "opencode-linux-x64" / "bin"
#: Where all of them are found.
PATH = f"{PROGRAMS}:{OPENCODE}:{os.environ['PATH']}"

pytestmark = [
    pytest.mark.agents,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not PROGRAMS.is_dir(), reason="the agents are not installed: make test-agents installs them"),
]

E = TypeVar("E")

#: No single piece of memory is looked through that is larger: what is reserved in advance.
_LARGEST = 2**28

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


#: Requests of one turn: the conversation's, and one for a title.
MOST_REFUSALS = {"claude": 2, "codex": 2, "opencode": 2, "pi": 1}

#: What the egress knows of the simulated provider (tests.egress.whole_egress).
ACCOUNTS = {"anthropic": "main", "openai": "other"}


def _no_key() -> str:
    raise AssertionError("the key is the egress's alone")


def memory(process: Path) -> bytes:
    """What a process has written into its memory; nothing where one may not look (ptrace(2), access mode checks)."""
    pieces: list[bytes] = []
    with contextlib.suppress(PermissionError), (process / "mem").open("rb", 0) as whole:
        for line in (process / "maps").read_text().splitlines():
            span, rights, *_ = line.split()
            start, end = (int(word, 16) for word in span.split("-"))
            if rights.startswith("rw") and end - start <= _LARGEST:
                with contextlib.suppress(OSError):
                    whole.seek(start)
                    pieces.append(whole.read(end - start))
    return b"\0".join(pieces)


@dataclass
class Real:
    """A real agent, its way out, and the provider behind that."""

    name: str
    box: str
    agent: Agent
    plane: Plane
    sent: int = field(default=0)

    @property
    def provider(self) -> Provider:
        return self.plane.provider

    @property
    def workspace(self) -> Path:
        return Path(self.agent.spec.workspace)

    @property
    def home(self) -> Path:
        return self.agent.folder / "home"

    async def way(self) -> EgressGrant:
        """Open its way out, as `bot.egress_client` does."""
        registration = AgentRegistration(
            agent="coder0",
            launch_id="l1",
            role="coder",
            accounts=ACCOUNTS,  # type: ignore[arg-type]  # pydantic checks the providers
            listener="port" if self.box == "none" else "unix",
            turn_file=str(self.agent.folder / TURN_FILE),
        )
        address = await self.plane.egress.register(registration)
        trust = self.plane.paths.trust
        return EgressGrant(
            socket=None if address.socket is None else Path(address.socket),
            url=address.url,
            ca_file=trust / "ca.pem",
            bundle_file=trust / "bundle.pem",
        )

    async def prepare(self) -> tuple[Prepared, EgressGrant]:
        """Ready the agent as `fleet.launch.host_spec_builder` does. Returns what it made of the runtime, and the way
        out."""
        runtime = runtimes.RUNTIMES[self.name]
        way, provider = await self.way(), runtime.providers[0]
        account = model_access.ModelAccount(name=ACCOUNTS[provider], provider=provider, base_url=None, secret=_no_key)
        prepared = runtimes.prepare(
            runtime,
            home=self.home,
            workspace=self.workspace,
            model=None,
            account=model_access.through(account, way, login=bool(runtime.login)),
            extra_environment=model_access.environment(way),
            sandboxed=self.box != "none",
            which=lambda name: shutil.which(name, path=PATH),
        )
        self.agent.spec = replace(
            self.agent.spec,
            runtime=self.name,
            sandbox=self.box,
            sandboxed=self.box != "none",
            command=prepared.command if self.box == "none" else self.boxed(prepared, way),
            environment=prepared.environment,
            adapter=runtime.adapter,
            child_names=runtime.child_names,
            session_meta=prepared.session_meta,
            aside=runtime.asks,
            aside_meta=prepared.aside_meta,
            session_mode=prepared.session_mode,
            hints=prepared.hints,
            terminal=prepared.terminal if self.box == "none" else self.boxed_terminal(prepared, way),
            heartbeat_s=1.0,
            initialize_timeout_s=LIMIT_S,
        )
        return prepared, way

    def boxed(self, prepared: Prepared, way: EgressGrant, *, doors: Sequence[Path] = ()) -> tuple[str, ...]:
        """The command line that runs it in its sandbox."""
        hidden = (self.agent.folder,)
        return sandbox.wrap(prepared, workspace=self.workspace, home=self.home, hidden=hidden, doors=doors, way=way)

    def boxed_terminal(self, prepared: Prepared, way: EgressGrant) -> tuple[str, ...]:
        """The command line that runs its terminal program there; empty if none is known."""
        if not prepared.terminal:
            return ()
        place = {"workspace": self.workspace, "home": self.home, "hidden": (self.agent.folder,), "way": way}
        return sandbox.wrap(replace(prepared, command=prepared.terminal), **place, terminal=True)  # type: ignore[arg-type]

    async def audited(self) -> list[LedgerEntry]:
        """The rows of the ledger, once they are as many as the provider was asked; they equal what that billed.

        Raises:
            AssertionError: they are not.
        """
        served = self.provider.ledger.entries
        rows = await self.plane.entries(len(served))
        # What was cut before it was answered may have been cut before it was sent.
        answered = sum(row.status is not None for row in rows)
        assert answered <= len(served) <= len(rows), "each request once, and none past the egress"
        billed: Counter[tuple[str | None, Any]] = Counter(
            (each.model, each.tokens) for each in served if each.state == "completed"
        )
        reported: Counter[tuple[str | None, Any]] = Counter(
            (row.model, row.tokens) for row in rows if row.reported and row.ended != "error"
        )
        # A client that was killed may not have read an answer that the provider had sent whole: that one is estimated.
        unread = sum(not row.reported and row.ended == "client_gone" for row in rows)
        assert reported <= billed
        assert (billed - reported).total() <= unread
        # Only an answer that somebody broke off is estimated.
        assert [row for row in rows if not row.reported and row.ended == "completed"] == []
        assert {(row.agent, row.launch_id, row.account) for row in rows} <= {("coder0", "l1", "main")} | {
            ("coder0", "l1", "other")
        }
        return rows

    async def refused(self) -> list[str]:
        """What the egress refused it, but for a budget."""
        actions = await self.plane.egress.ledger.actions_after(0, 1_000)
        return [action.cause for action in actions if "budget" not in action.cause]

    async def limit(self, amount: float) -> None:
        """Give it so many tokens, as ``budget set`` does."""
        gate = self.plane.egress.gate
        limits = (LimitSettings(kind="allowance", scope="agent:coder0", amount=amount),)
        await gate.set_settings(gate.settings.model_copy(update={"limits": limits}))

    def holders(self, pid: int, words: Sequence[str]) -> dict[str, list[str]]:
        """Where each word is, of all that this process and those below it have, and of all that the agent is shown."""
        shown = (self.agent.folder, self.workspace, self.plane.paths.trust)
        places = [path for folder in shown for path in folder.rglob("*") if path.is_file()]
        processes = [Path(f"/proc/{pid}"), *(Path(f"/proc/{each.pid}") for each in process_sweep.descendants(pid))]
        assert len(processes) > 2
        places += [process / name for process in processes for name in ("environ", "cmdline")]
        found: dict[str, list[str]] = {word: [] for word in words}
        for name, content in (
            *((str(place), place.read_bytes()) for place in places),
            *((f"{process}/mem", memory(process)) for process in processes),
        ):
            for word in words:
                if word.encode() in content:
                    found[word].append(name)
        return found

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


@contextlib.asynccontextmanager
async def agent_of(name: str, box: str, folder: Path) -> AsyncIterator[Real]:
    """A real agent that is ready to be started, and its egress."""
    # Names of unix sockets have 107 bytes.
    with tempfile.TemporaryDirectory(prefix="mx-") as short:
        async with plane(Path(short)) as around:
            real = Real(name, box, Agent.make(folder), around)
            await real.prepare()
            yield real


@pytest.mark.smoke
async def test_talks_asks_before_it_acts_and_does_what_was_allowed(real: Real) -> None:
    async with real.running() as link:
        assert "You said: Good morning." in await real.turn(link, "Good morning.")
        message = await real.send(link, ASKING[real.name])
        asked = await until(link, PermissionAsked)
        assert "touch made" in asked.detail
        assert not (real.workspace / "made").exists()
        if real.box == "bubblewrap":
            found = real.holders(link.hello.pid, ("placeholder", KEY))
            assert len(found["placeholder"]) > 1, "so that the key would be found, too"
            assert found[KEY] == []
        await allow(link, asked)
        ended = await real.ended(link, message)
        assert ended.stop_reason == "end_turn"
        assert (real.workspace / "made").exists()
        assert "it is made" in "".join(event.text for event in real.agent.events(TextChunk))
        (started,) = real.agent.events(RuntimeStarted)
    rows = await real.audited()
    assert all(row.reported for row in rows)
    assert {row.session for row in rows} == {started.session}
    assert ended.turn in {row.turn for row in rows}
    assert await real.refused() == []
    asked_of_the_model = [entry for entry in real.provider.ledger.entries if entry.text == "Good morning."]
    assert len([entry for entry in asked_of_the_model if entry.tools]) == 1


@pytest.mark.parametrize("box", ["none", "bubblewrap"])
@pytest.mark.parametrize("name", ["claude", "codex", "pi"], indirect=True)
async def test_goes_on_in_a_conversation_that_was_begun_elsewhere(name: str, box: str, tmp_path: Path) -> None:
    async with agent_of(name, "none", tmp_path / "one") as first:
        async with first.running() as link:
            await first.turn(link, "Good morning.")
            await link.shutdown()
        (started,) = first.agent.events(RuntimeStarted)
        shutil.copytree(first.home, tmp_path / "person", symlinks=True)
        if name == "pi":
            # A person's are in a folder for each place where they were held.
            kept_in = tmp_path / "person/.pi/agent/sessions"
            kept_in.rename(tmp_path / "place")
            kept_in.mkdir()
            (tmp_path / "place").rename(kept_in / "--place--")
    listed, whole = kept_sessions.listed(name, tmp_path / "person", {})
    assert whole
    assert [(each.id, each.folder, each.words) for each in listed] == [
        (started.session, str(first.workspace), "Good morning.")
    ]
    kept = kept_sessions.find(name, started.session, tmp_path / "person", {})
    before = kept.file.read_bytes()
    async with agent_of(name, box, tmp_path / "two") as real:
        kept_sessions.take_over(name, kept, home=real.home, cwd=real.workspace)
        real.agent.spec = replace(real.agent.spec, taken_over=started.session)
        async with real.running() as link:
            assert "You said: And now?" in await real.turn(link, "And now?")
            await link.shutdown()
        (again,) = real.agent.events(RuntimeStarted)
        assert (again.session, again.loaded) == (started.session, True)
        # The person's own stays as it was.
        assert kept.file.read_bytes() == before
        async with real.running() as link:
            await real.turn(link, "Good night.")
        assert real.agent.events(RuntimeStarted)[-1].session == started.session


def _asks_about(word: str, asked: PermissionAsked) -> bool:
    return word in asked.detail


async def test_each_command_of_a_turn_starts_in_the_workspace(real: Real) -> None:
    """Approval rules judge relative paths by that. Claude Code would stay in `sub` (`fleet.runtimes.claude`)."""
    (real.workspace / "sub").mkdir()
    orders = [
        ASKING[real.name].replace("touch made", command) for command in ("cd sub && touch inside", "touch at-the-top")
    ]
    async with real.running() as link:
        message = await real.send(link, "".join(orders))
        for word in ("touch inside", "touch at-the-top"):
            await allow(link, await until(link, PermissionAsked, partial(_asks_about, word)))
        assert (await real.ended(link, message)).stop_reason == "end_turn"
    assert (real.workspace / "sub/inside").exists()
    assert (real.workspace / "at-the-top").exists()


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


async def test_a_spent_budget_is_told_at_once_and_a_raised_one_is_all_it_needs(
    real: Real, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = []
    refuse = ResponseWriter.refuse

    def counted(self: ResponseWriter, status: int, *arguments: Any, **named: Any) -> None:
        refusals.append(status)
        refuse(self, status, *arguments, **named)

    monkeypatch.setattr(ResponseWriter, "refuse", counted)

    async def told(link: AgentLink, message: str) -> str:
        """What a person is shown of a turn."""
        ended = await real.ended(link, message)
        words = "".join(event.text for event in real.agent.events(TextChunk) if event.turn == ended.turn)
        return f"{words} {ended.detail or ''}"

    async with real.running() as link:
        message = await real.send(link, "[[say: Half of it.]][[hang]]")
        await until(link, TextChunk)
        await real.limit(1)
        shown = await told(link, message)
        assert ("The budget of coder0" in shown) == (real.name != "pi")
        assert ("muster budget set agent:coder0" in shown) == (real.name != "pi")
        refusals.clear()
        shown = await told(link, await real.send(link, "And now?"))
        # pi-acp keeps it to itself; then it is told by the egress alone, to the agent's thread.
        assert ("The budget of coder0 is used up" in shown) == (real.name != "pi")
        assert ("muster budget set agent:coder0" in shown) == (real.name != "pi")
        assert 1 <= len(refusals) <= MOST_REFUSALS[real.name], "it asks again and again"
        await real.limit(10_000_000)
        assert "You said: At last?" in await real.turn(link, "At last?")
        assert len(real.agent.events(RuntimeStarted)) == 1
    assert await real.refused() == []


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
    host_lifecycle.clear_away(real.agent.folder)
    before = real.provider.ledger.entries[-1].number
    async with real.running() as link:
        assert "You said: What was it?" in await real.turn(link, "What was it?")
        _, second = real.agent.events(RuntimeStarted)
        assert (second.loaded, second.session) == (True, first.session), second.note
    later = [e for e in real.provider.ledger.entries if e.number > before and e.text == "What was it?"]
    assert later


async def read_on_the_side(real: Real, link: AgentLink) -> None:
    """Have Claude Code try its tools for files: those that read work in the workspace, and nowhere else."""
    (real.workspace / "in").write_text("It is inside.")
    outside = real.agent.home / "out"
    outside.write_text("It is outside.")
    for number, (tool, given) in enumerate(
        (
            ("Read", {"file_path": f"{real.workspace}/in"}),
            ("Read", {"file_path": str(outside)}),
            ("Write", {"file_path": f"{real.workspace}/made", "content": "x"}),
        )
    ):
        question = f"r{number}"
        await link.ask_aside(question, f"[[tool: {tool} {json.dumps(given)}]] [[say: It was tried.]]")
        answer = await until(link, AsideEnded, lambda event, question=question: event.id == question)  # type: ignore[misc]
        assert (answer.outcome, answer.changed) == ("answered", ())
        assert bool(answer.refused) is (given["file_path"] == str(outside)), (tool, given)


# Not pi, which takes none.
@pytest.mark.parametrize("name", ["claude", "codex", "opencode"], indirect=True)
async def test_a_question_on_the_side_is_answered_by_a_copy_that_can_only_read(real: Real) -> None:
    async with real.running() as link:
        await real.turn(link, "Remember the number 4711.")
        (first,) = real.agent.events(RuntimeStarted)
        await kept(real, first.session)
        working = await real.send(link, "[[wait: gate]] [[say: It is built.]]")
        await until(link, TurnStarted, lambda event: event.message == working)
        await link.ask_aside("q1", "What was it?", summary="Nothing was said.")
        answer = await until(link, AsideEnded, lambda event: event.id == "q1")
        assert (answer.outcome, answer.detail) == ("answered", None)
        assert "You said: What was it?" in answer.text
        assert answer.forked

        await link.ask_aside("q2", f"{ASKING[real.name]} [[say: It was tried.]]")
        tried = await until(link, AsideEnded, lambda event: event.id == "q2")
        if real.name == "claude":
            assert tried.outcome == "answered", "it does not offer the tool at all"
            await read_on_the_side(real, link)
        else:
            assert tried.refused
        assert not (real.workspace / "made").exists()

        assert (await link.status()).turn is not None, "the turn goes on"
        real.provider.release("gate")
        ended = await real.ended(link, working)
        assert ended.stop_reason == "end_turn"
        said = "".join(event.text for event in real.agent.events(TextChunk) if event.turn == ended.turn)
        assert said.strip() == "It is built."
        assert not real.agent.events(PermissionAsked), "nobody is asked"


async def test_a_hostile_repository_runs_nothing_and_allows_itself_nothing(real: Real, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    hostile.repository(real.workspace, outside)
    hostile.granting(real.agent.folder / "home", real.workspace)
    if real.name == "opencode":
        with pytest.raises(FleetError, match=r"look at .*/\.opencode/plugin"):
            await real.prepare()
        hostile.remove_plugins(real.workspace)
    await real.prepare()
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
        # In a sandbox it is in a network of its own, where nobody else is.
        assert bool(doors) == (real.name == "opencode" and real.box == "none"), "a door that nobody looked at"
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
