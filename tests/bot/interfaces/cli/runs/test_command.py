"""`muster run`, and `--wait`, as processes against a real orchestrator and the built-in agent."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bot.interfaces.cli.runs.command import LONGEST_INPUT
from database.queries.agents import agent_messages, runs
from database.queries.agents.runs import AgentRun
from fleet.journal import reader
from fleet.journal.events import JournalPosition, MessageQueued
from tests.bot.orchestrator import ROOM, House, house

SETTINGS = "agents: {runtime: sim, sandbox: none}\n"
PROGRAM = (sys.executable, "-P", "-m", "bot")


#: More than a prompt may have; an endless input is read no further.
TOO_MUCH = b"x" * (LONGEST_INPUT + 2**20)


@dataclass
class Terminal:
    """A shell on the machine of an orchestrator."""

    home: House

    async def start(self, *words: str, stdin: int = asyncio.subprocess.DEVNULL) -> asyncio.subprocess.Process:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home.paths.home),
            "MUSTER_HOME": str(self.home.paths.home),
        }
        return await asyncio.create_subprocess_exec(
            *PROGRAM,
            *words,
            stdin=stdin,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
            cwd=self.home.paths.home,
        )

    async def __call__(self, *words: str, given: bytes | None = None) -> tuple[int, str, str]:
        """Run a command to its end: exit status, standard output, standard error."""
        stdin = asyncio.subprocess.DEVNULL if given is None else asyncio.subprocess.PIPE
        process = await self.start(*words, stdin=stdin)
        async with asyncio.timeout(60):
            out, err = await process.communicate(given)
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    async def run_of(self, agent: str, *states: str) -> AgentRun:
        """The newest run of an agent, once it is in one of the states."""
        async with asyncio.timeout(30):
            while True:
                async with self.home.orchestrator.store.read() as tx:
                    found = [*await runs.open_ones(tx, agent=agent), *await runs.last_ended(tx, limit=20)]
                run = next((each for each in found if each.agent == agent), None)
                if run is not None and run.state in states:
                    return run
                await asyncio.sleep(0.02)


@pytest.fixture
async def shell(tmp_path: Path) -> AsyncIterator[Terminal]:
    async with house(tmp_path, settings=SETTINGS) as home:
        written = home.paths.muster_yaml.read_text()
        home.paths.muster_yaml.write_text(written.replace("memory: {}", f"memory: {{fleet_room: {ROOM}}}"))
        async with home.open():
            yield Terminal(home)


async def test_the_answer_is_all_that_standard_output_gets(shell: Terminal) -> None:
    status, out, err = await shell("run", "coder", "--prompt", "[[say: it is 42]] what is it?")
    assert (status, out) == (0, "it is 42\n"), err
    assert "begins with the agent coder" in err
    status, out, err = await shell("run", "--resume", "coder", "--prompt", "[[say: still]]")
    assert (status, out) == (0, "still\n")
    status, out, err = await shell("run", "coder", "--json", "--prompt", "[[say: as data]]")
    found = json.loads(out)
    assert (status, found["state"], found["answer"], found["agent"]) == (0, "done", "as data", "coder-2")
    assert "The name coder is taken" in err


@pytest.mark.parametrize("given", [True, False], ids=["on standard input", "as an argument"])
async def test_the_prompt_reaches_the_agent_as_it_is(shell: Terminal, given: bool) -> None:
    prompt = "--yes !stop \"two\" 'one' # not a comment\r\n\n\tend $HOME `id` \\ é " + ("\n" if given else "")
    words = ("run", "coder", "--prompt", "-" if given else prompt)
    status, _, err = await shell(*words, given=prompt.encode() if given else None)
    assert status == 0, err
    run = await shell.run_of("coder", "done")
    assert run.prompt == prompt
    async with shell.home.orchestrator.store.read() as tx:
        message = await agent_messages.get(tx, run.message)
    assert message is not None
    assert message.text == prompt
    journal = shell.home.paths.agent_folder("coder")
    (queued,) = [
        each.event.text for each in reader.read(journal, JournalPosition()) if isinstance(each.event, MessageQueued)
    ]
    assert queued == prompt


async def test_outcomes_have_their_own_exit_status(shell: Terminal) -> None:
    assert (await shell("run", "coder", "--prompt", "[[error: 400 no]]"))[0] == 4
    assert (await shell("run", "coder", "--prompt", "[[say: much]]", "--budget", "10"))[0] == 5
    status, out, err = await shell("run", "coder", "--prompt", "[[wait: never]]", "--timeout", "1s")
    assert (status, out) == (6, "")
    assert "timed out" in err
    process = await shell.start("run", "coder", "--name", "slow", "--prompt", "[[wait: never]]")
    run = await shell.run_of("slow", "running")
    assert (await shell("runs", "stop", run.id))[0] == 0
    async with asyncio.timeout(30):
        assert await process.wait() == 7


async def test_what_cannot_begin_says_why_before_anything_begins(shell: Terminal) -> None:
    for words, status, reason in (
        (("run", "coder"), 2, "--prompt"),
        (("run", "coder", "--prompt", " "), 2, "--prompt"),
        (("run", "coder", "--prompt", "-"), 2, "standard input, which is empty"),
        (("run", "codr", "--prompt", "x"), 1, "Did you mean 'coder'"),
        (("run", "--prompt", "x"), 2, "ROLE-OR-AGENT is missing"),
        (("run", "coder", "--prompt", "x", "--sandbox", "nowhere"), 1, "No sandbox is called 'nowhere'"),
        (("run", "coder", "--prompt", "x", "--color", "beige"), 2, "bright-cyan"),
        (("run", "--resume", "ghost", "--prompt", "x"), 1, "No agent is called 'ghost'"),
    ):
        found = await shell(*words)
        assert found[0] == status, (words, found)
        assert reason in " ".join(found[2].split()), (words, found)
        assert found[1] == ""
    async with shell.home.orchestrator.store.read() as tx:
        assert await runs.last_ended(tx, limit=1) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_an_interrupted_wait_says_that_the_agent_goes_on(shell: Terminal, number: signal.Signals) -> None:
    process = await shell.start("run", "coder", "--prompt", "[[say: done all the same]] [[wait: gate]]")
    run = await shell.run_of("coder", "running")
    assert process.stderr is not None
    async with asyncio.timeout(30):
        while b"has the prompt" not in await process.stderr.readline():
            pass
    process.send_signal(number)
    async with asyncio.timeout(30):
        _, err = await process.communicate()
    assert process.returncode == 128 + number
    assert f"muster runs stop {run.id}" in err.decode()
    shell.home.models.release("gate")
    assert (await shell.run_of("coder", "done")).answer == "done all the same"


async def test_a_shell_that_is_killed_changes_nothing(shell: Terminal) -> None:
    process = await shell.start("run", "coder", "--prompt", "[[wait: never]]", "--timeout", "2s")
    await shell.run_of("coder", "running")
    process.kill()
    await process.communicate()
    assert (await shell.run_of("coder", "timed_out")).answer == ""


async def test_a_terminal_is_never_asked_anything(shell: Terminal) -> None:
    """On a terminal, too: the process never reads from it, and ends by itself."""
    main, other = pty.openpty()
    try:
        environment = {"PATH": os.environ["PATH"], "MUSTER_HOME": str(shell.home.paths.home), "TERM": "xterm"}
        # As far as anything would ask, it would fail here.
        script = (
            "import builtins, click, sys\n"
            "def asked(*_, **__): sys.exit(99)\n"
            "builtins.input = click.prompt = click.confirm = click.getchar = asked\n"
            "from bot.interfaces.cli.main import main\n"
            "main(sys.argv[1:])\n"
        )
        for words, status in (
            (("run", "coder", "--prompt", "[[say: here]]"), 0),
            (("run", "coder"), 2),
            (("run", "codr", "--prompt", "x"), 1),
        ):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-c", script, *words, stdin=other, stdout=other, stderr=other, env=environment
            )
            async with asyncio.timeout(60):
                assert await process.wait() == status
        with contextlib.suppress(BlockingIOError):
            os.set_blocking(main, False)
            assert b"here" in os.read(main, 65_536)
    finally:
        os.close(main)
        os.close(other)


async def test_words_and_tasks_can_be_waited_for(shell: Terminal) -> None:
    await shell.home.launch("coder0", "--role", "coder")
    status, out, _ = await shell("send", "coder0", "--wait", "[[say: heard you]]")
    assert (status, out) == (0, "heard you\n")
    status, out, err = await shell("send", "coder0", "[[say: alone]]")
    assert (status, out) == (0, "Queued for coder0.\n")
    await shell.home.ask("!freeze coder0")
    status, _, err = await shell("send", "coder0", "--wait", "later")
    assert status == 8
    assert "muster resume coder0" in err


async def test_a_task_is_waited_for_until_its_agent_says_that_it_is_done(shell: Terminal) -> None:
    await shell.home.launch("coder0", "--role", "coder")
    done = '[[tool: mcp__muster__task_done {"status": "done", "summary": "mended"}]] [[say: it was the parser]]'
    status, out, err = await shell("task", "add", "--wait", "--agent", "coder0", done)
    assert (status, out.splitlines()[-1]) == (0, "it was the parser"), err
    status, _, err = await shell("task", "add", "--wait", "--agent", "coder0", "[[say: hm]]")
    assert status == 8
    assert "muster task close" in err


async def test_a_run_that_is_not_waited_for_is_printed(shell: Terminal) -> None:
    status, out, _ = await shell("run", "coder", "--detach", "--json", "--prompt", "[[say: later]]")
    assert (status, json.loads(out)["state"]) == (0, "queued")
    assert (await shell.run_of("coder", "done")).answer == "later"
    status, out, _ = await shell("runs", "--json")
    (run,) = json.loads(out)["runs"]
    assert (status, run["answer"], run["source"]) == (0, "later", "cli")
    status, out, _ = await shell("ps", "--json", "--all")
    (agent,) = json.loads(out)
    assert agent["run"] == run["id"]


async def test_an_endless_prompt_is_refused_before_it_fills_the_memory(shell: Terminal) -> None:
    status, out, err = await shell("run", "coder", "--prompt", "-", given=TOO_MUCH)
    assert (status, out) == (2, ""), err
    assert "longer than 1 MiB" in err
    async with shell.home.orchestrator.store.read() as tx:
        assert await runs.open_ones(tx) == []
