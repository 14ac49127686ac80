"""`muster up --demo`: a fleet of built-in agents that work on a small repository, in a folder of its own.

On a terminal, it is a live chat. Otherwise, it plays a short conversation through the same code, prints it, and fails
if an expected step does not occur.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import re
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from bot.app import demo_story
from bot.app.foreground import converse_at_keyboard, log_to
from bot.app.orchestrator import Orchestrator, running, until_stopped
from bot.app.stages import beside
from bot.config.instance_lock import only_one
from bot.config.loader import Account, load
from bot.config.paths import Paths
from bot.config.secrets import redaction_of
from bot.egress_client.in_process import inside
from bot.setup import offline_stop
from connectors.terminal.connector import MAIN, TerminalSession
from connectors.terminal.transcript_file import TranscriptLine
from core.async_waits import first_of
from database.queries.agents import agents
from fleet.sandbox.selection import available
from fleet.sim.provider import server as provider

HINT = """\
A demo fleet with a simulated model: `lead`, an orchestrator, `polisher`, an enhancer, and two coders that share a small
repository. No data leaves this host. The usage of yesterday is made up.
coder0 and coder1 each get a task, and ask before they change anything. The demo allows coder1's command. You allow
coder0's: copy the line with !approve from its request. Then try: !ps, !tasks --all, !budget, !pace, !report
What you type goes to lead; !help lists all commands. /quit ends the demo and its agents.
"""
_LEAVING = "Ctrl-C again, or /quit, ends the demo and its agents."
_FLEET = (("lead", "orchestrator"), ("polisher", "enhancer"))
#: Seconds that a step of the played conversation may take.
_STEP_LIMIT = 60.0
_KEY = "MUSTER_DEMO_KEY"
#: The report that a task is done, with its id.
_DONE = re.compile(r"[Tt]ask `(\w+)`[^\n]* is done")


class StepFailed(Exception):
    """A step of the demo did not occur."""


def demo_paths(environ: Mapping[str, str]) -> Paths:
    """Return the demo's own folder in the state directory, so that a real installation is never affected."""
    return Paths.of({**environ, "MUSTER_HOME": str(Paths.of(environ).state / "demo")})


async def demo(environ: Mapping[str, str], *, live: bool, web: bool = False) -> int:
    """Run the demo in an empty folder, and return the exit status.

    Args:
        environ: the environment.
        live: whether a person is at the terminal.
        web: whether it has a dashboard.

    Raises:
        UserError: a demo runs already, or the folder cannot be used.
    """
    paths = demo_paths(environ)
    await asyncio.to_thread(_begin_anew, paths, demo_story.SETTINGS + (demo_story.WEB if web else ""))
    with _ended_by_hang_up():
        async with provider.running(provider.SimSettings(script=demo_story.script())) as models:
            return await _run(paths, {**environ, _KEY: "demo-key-that-opens-nothing"}, models.url, live=live)


async def _run(paths: Paths, environ: Mapping[str, str], models: str, *, live: bool) -> int:
    account = Account.model_validate({"provider": "anthropic", "base_url": models, "credential": f"env:{_KEY}"})
    settings = dataclasses.replace(load(paths), accounts={"demo": account})
    with log_to(paths.log, redaction_of(settings, environ)):
        # The egress is part of this process. Its agents are not, and must not outlive a demo that is killed.
        async with (
            inside(paths) as egress,
            running(paths, settings, environ, egress=egress, agents_end_too=True) as orchestrator,
        ):
            try:
                await demo_story.add_past(orchestrator.store)
                repository = _repository(paths)
                there = await asyncio.to_thread(demo_story.make_repository, repository)
                return await (_live if live else _played)(orchestrator, repository if there else None)
            finally:
                await _end_agents(orchestrator)


def _repository(paths: Paths) -> Path:
    """Return the folder of the demo's repository, beside the demo's own folder, which no agent may see."""
    return paths.config.with_name("demo-greet")


def _begin_anew(paths: Paths, settings: str) -> None:
    """Make the demo's folder new. Agents of a demo that was killed end first.

    Raises:
        UserError: a demo runs already.
    """
    paths.prepare()
    with only_one(paths.lock):
        offline_stop.stop_all(paths)
        shutil.rmtree(_repository(paths), ignore_errors=True)
        for place in (paths.state, paths.roster_yaml, paths.muster_yaml):
            if place.is_dir():
                for each in place.iterdir():
                    if each == paths.lock:
                        continue  # held
                    shutil.rmtree(each) if each.is_dir() and not each.is_symlink() else each.unlink()
            else:
                place.unlink(missing_ok=True)
    paths.prepare()
    for path, content in (
        (paths.roster_yaml, demo_roster(_repository(paths))),
        (paths.muster_yaml, settings),
    ):
        path.touch(mode=0o600)
        path.write_text(content, encoding="utf-8")


@contextlib.contextmanager
def _ended_by_hang_up() -> Iterator[None]:
    """Cancel the demo when its terminal is closed, so that its agents end with it."""
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, task.cancel)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


def _sandbox() -> str | None:
    """Return None if bubblewrap works, or "none", the explicit choice of no sandbox."""
    return None if available().works else "none"


def demo_roster(repository: Path) -> str:
    """Return the roster that each demo begins with."""
    return demo_story.roster(repository, _sandbox())


async def _end_agents(orchestrator: Orchestrator) -> None:
    async with orchestrator.store.read() as tx:
        rows = await agents.every(tx)
    for row in rows:
        await orchestrator.agents.kill(row, discard=True)


# --- live --------------------------------------------------------------------------------------------------------


async def _live(orchestrator: Orchestrator, repository: Path | None) -> int:
    print(HINT)
    if (address := orchestrator.services.web_address) is not None:
        print(f"The dashboard is at {address}. Open it there, and write here the line that it shows.\n")
    async with orchestrator.terminal.attached() as session:
        await _launch_fleet(session, repository)
    async with beside("demo", _allow(orchestrator, demo_story.TASKS[1].agent)):
        talk = converse_at_keyboard(orchestrator, before_leaving=_LEAVING)
        await first_of(talk, until_stopped(orchestrator))
    return 0


async def _launch_fleet(session: TerminalSession, repository: Path | None) -> None:
    await session.say("!launch lead")
    for task in demo_story.TASKS if repository is not None else ():
        await session.say(f"!launch {task.agent}")
        await session.say(f"!task add {shlex.quote(task.text)} --agent {task.agent} --estimate 20k")
    await session.say("!launch polisher")


async def _allow(orchestrator: Orchestrator, agent: str) -> None:
    """Answer the first request of an agent in its thread, as an operator would."""
    async with orchestrator.terminal.attached() as session:
        async for line in session:
            if line.conversation == f"{MAIN}/{agent}" and (number := _request_in(line)) is not None:
                await session.say(f"!approve {number}", conversation=line.conversation)
                return


def _request_in(line: TranscriptLine) -> str | None:
    """Return the id of the permission request in a line of the fleet, or None."""
    if line.kind == "input" or "asks for permission" not in line.text:
        return None
    return line.text.split("permission `", 1)[1].split("`", 1)[0]


# --- played ------------------------------------------------------------------------------------------------------


class _Scene:
    """A played conversation: sends messages and waits for expected answers."""

    def __init__(self, session: TerminalSession) -> None:
        self._session = session
        self._lines: asyncio.Queue[TranscriptLine] = asyncio.Queue()

    async def listen(self) -> None:
        """Print every line, and keep it for `hear`."""
        async for line in self._session:
            where = "" if line.conversation == MAIN else f"[{line.conversation.rpartition('/')[2]}] "
            mark = "> " if line.kind == "input" else "  "
            for part in line.text.splitlines() or [""]:
                print(f"{where}{mark}{part}", flush=True)
            self._lines.put_nowait(line)

    async def say(self, text: str) -> None:
        await self._session.say(text, conversation=MAIN)

    async def hear(self, words: str, what: str) -> TranscriptLine:
        """Wait for a line of the fleet that contains `words`.

        Raises:
            StepFailed: it did not arrive in time.
        """
        try:
            async with asyncio.timeout(_STEP_LIMIT):
                while True:
                    line = await self._lines.get()
                    if line.kind != "input" and words in line.text:
                        return line
        except TimeoutError:
            raise StepFailed(f"{what}: nothing with {words!r} was heard in {_STEP_LIMIT:.0f} s") from None

    async def finish_tasks(self, count: int) -> None:
        """Allow each permission request, until the commits and the ends of so many tasks are reported.

        Raises:
            StepFailed: a step did not occur in time.
        """
        commits, done = set[str](), set[str]()
        while len(commits) < count or len(done) < count:
            line = await self.hear("", "requests, commits and ends of the tasks")
            if (number := _request_in(line)) is not None:
                await self.say(f"!approve {number}")
            commits |= {line.conversation} if "⇡ 1 commit" in line.text else set()
            done |= set(_DONE.findall(line.text))


async def _played(orchestrator: Orchestrator, repository: Path | None) -> int:
    async with orchestrator.terminal.attached() as session:
        scene = _Scene(session)
        listening = asyncio.create_task(scene.listen())
        try:
            await _play(scene, session, repository)
        except StepFailed as failure:
            print(f"\nThe demo failed. {failure}. The log: {orchestrator.paths.log}", file=sys.stderr)
            return 1
        finally:
            listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await listening
    print("\nThe demo played to its end: launched, talked, approved, finished a task, listed, reported, stopped.")
    return 0


async def _play(scene: _Scene, session: TerminalSession, repository: Path | None) -> None:
    await _launch_fleet(session, repository)
    if repository is not None:
        await scene.finish_tasks(len(demo_story.TASKS))
    await scene.say("Who is there? [[say: I am lead, and I delegate.]]")
    await scene.hear("I am lead, and I delegate.", "talking to the orchestrator")
    for command, words in (("!ps", "idle"), ("!budget", "50M"), ("!report", "coder1")):
        await scene.say(command)
        await scene.hear(words, command)
    coders = [task.agent for task in demo_story.TASKS] if repository is not None else []
    for name in (*coders, *(name for name, _role in _FLEET)):
        await scene.say(f"!stop {name}")
        await scene.hear("Stopped", f"stopping {name}")
