"""`muster up --demo`: a fleet of two built-in agents with a local model provider, in a folder of its own.

On a terminal, it is a live chat. Otherwise, it plays a short conversation through the same code, prints it, and fails
if an expected step does not occur.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import sys
from collections.abc import Mapping

from bot.app.foreground import converse_at_keyboard, log_to
from bot.app.orchestrator import Orchestrator, running, until_stopped
from bot.config.loader import Account, load
from bot.config.paths import Paths
from bot.config.secrets import redaction_of
from bot.egress_client.in_process import inside
from connectors.terminal.connector import MAIN, TerminalSession
from connectors.terminal.transcript_file import TranscriptLine
from core.async_waits import first_of
from database.queries.agents import agents
from fleet import presets
from fleet.sandbox.selection import available
from fleet.sim.provider import server as provider

HINT = """\
A demo fleet with a simulated model: `lead`, an orchestrator, and `polisher`, an enhancer. No data leaves this host.
What you type goes to lead. Try: !ps, !roster, !help, !launch coder0, or: please run it [[run: date]]
An agent's answer to a permission request waits for !approve ID. /quit ends the demo and its agents.
"""
_FLEET = (("lead", "orchestrator"), ("polisher", "enhancer"))
#: Seconds that a step of the played conversation may take.
_STEP_LIMIT = 60.0
_KEY = "MUSTER_DEMO_KEY"


class StepFailed(Exception):
    """A step of the demo did not occur."""


def demo_paths(environ: Mapping[str, str]) -> Paths:
    """Return the demo's own folder in the state directory, so that a real installation is never affected."""
    return Paths.of({**environ, "MUSTER_HOME": str(Paths.of(environ).state / "demo")})


async def demo(environ: Mapping[str, str], *, live: bool) -> int:
    """Run the demo and return the exit status."""
    paths = demo_paths(environ)
    paths.prepare()
    if not paths.roster_yaml.exists():
        paths.roster_yaml.touch(mode=0o600)
        paths.roster_yaml.write_text(demo_roster(), encoding="utf-8")
    async with provider.running() as models:
        account = Account.model_validate({"provider": "anthropic", "base_url": models.url, "credential": f"env:{_KEY}"})
        settings = dataclasses.replace(load(paths), accounts={"demo": account})
        environ = {**environ, _KEY: "demo-key-that-opens-nothing"}
        with log_to(paths.log, redaction_of(settings, environ)):
            async with inside(paths) as egress, running(paths, settings, environ, egress=egress) as orchestrator:
                try:
                    return await (_live(orchestrator) if live else _played(orchestrator))
                finally:
                    await _end_agents(orchestrator)


def _sandbox() -> str | None:
    """Return None if bubblewrap works, or "none", the explicit choice of no sandbox."""
    return None if available().works else "none"


def _sandbox_option() -> str:
    sandbox = _sandbox()
    return "" if sandbox is None else f" --sandbox {sandbox}"


def demo_roster() -> str:
    """Return the roster for the first demo; later changes to its file persist."""
    return presets.text("general", runtime="sim", sandbox=_sandbox())


async def _end_agents(orchestrator: Orchestrator) -> None:
    async with orchestrator.store.read() as tx:
        rows = await agents.every(tx)
    for row in rows:
        await orchestrator.agents.kill(row, discard=True)


# --- live --------------------------------------------------------------------------------------------------------


async def _live(orchestrator: Orchestrator) -> int:
    print(HINT)
    async with orchestrator.terminal.attached() as session:
        await _launch_fleet(session)
    await first_of(converse_at_keyboard(orchestrator), until_stopped(orchestrator))
    return 0


async def _launch_fleet(session: TerminalSession) -> None:
    for name, role in _FLEET:
        await session.say(f"!launch {name} --role {role} --runtime sim{_sandbox_option()}")


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

    async def say(self, text: str, conversation: str = MAIN) -> None:
        await self._session.say(text, conversation=conversation)

    async def hear(self, words: str, what: str, conversation: str | None = None) -> TranscriptLine:
        """Wait for a line of the fleet that contains `words`.

        Raises:
            StepFailed: it did not arrive in time.
        """
        try:
            async with asyncio.timeout(_STEP_LIMIT):
                while True:
                    line = await self._lines.get()
                    there = conversation is None or line.conversation == conversation
                    if there and line.kind != "input" and words in line.text:
                        return line
        except TimeoutError:
            raise StepFailed(f"{what}: nothing with {words!r} was heard in {_STEP_LIMIT:.0f} s") from None


async def _played(orchestrator: Orchestrator) -> int:
    # Skip the output of an earlier demo.
    async with orchestrator.terminal.attached(orchestrator.terminal.last) as session:
        scene = _Scene(session)
        listening = asyncio.create_task(scene.listen())
        try:
            await _play(scene, session)
        except StepFailed as failure:
            print(f"\nThe demo failed. {failure}. The log: {orchestrator.paths.log}", file=sys.stderr)
            return 1
        finally:
            listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await listening
    print("\nThe demo played to its end: launched, talked, approved, listed, stopped.")
    return 0


async def _play(scene: _Scene, session: TerminalSession) -> None:
    await _launch_fleet(session)
    for name, _role in _FLEET:
        await scene.hear("Ready", f"launching {name}")
    await scene.say("Who is there? [[say: I am lead, and I delegate.]]")
    await scene.hear("I am lead, and I delegate.", "talking to the orchestrator")
    await scene.say("!send lead show me the date [[run: date -u +%Y]]")
    question = await scene.hear("asks for permission", "asking for a permission")
    number = question.text.split("permission `", 1)[1].split("`", 1)[0]
    await scene.say(f"!approve {number}")
    await scene.hear("20", "running what was approved", question.conversation)
    await scene.say("!ps")
    await scene.hear("idle", "listing the fleet")
    for name, _role in _FLEET:
        await scene.say(f"!stop {name}")
        await scene.hear("Stopped", f"stopping {name}")
