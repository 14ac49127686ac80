"""`kill -9` of orchestrator, agent host and shell: a run ends rightly, once, and its answer is whole."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bot.config.paths import Paths
from fleet.sim.provider import server as provider
from fleet.supervision import host_lifecycle
from tests import waiting
from tests.system.installation import LIMIT, Premises

_SETTINGS = """\
connectors:
  terminal: {}
agents: {runtime: sim, sandbox: none}
accounts:
  sim: {provider: anthropic, base_url: 'URL', credential: 'env:SIM_KEY'}
"""


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[Premises]:
    """An installation with a terminal room, whose orchestrator runs as a process."""
    paths = Paths.of({"MUSTER_HOME": str(tmp_path / "home"), "HOME": str(tmp_path)})
    paths.prepare()
    async with provider.running() as models:
        paths.muster_yaml.write_text(_SETTINGS.replace("URL", models.url))
        made = Premises(folder=tmp_path, models=models, paths=paths, kind="terminal")
        await made.start()
        try:
            yield made
        finally:
            await made.close()


async def begun(home: Premises, *words: str) -> asyncio.subprocess.Process:
    """A shell that waits for a run."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "bot", "run", "coder", *words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=home.environment(),
        cwd=home.folder,
    )


async def runs(home: Premises) -> list[dict[str, Any]]:
    """What `muster runs --json` says."""
    status, printed = await home.shell("runs", "--json")
    assert status == 0, printed
    found: list[dict[str, Any]] = json.loads(printed)["runs"]
    return found


async def printed(process: asyncio.subprocess.Process) -> tuple[int | None, str, str]:
    assert process.stdout is not None
    assert process.stderr is not None
    async with asyncio.timeout(LIMIT):
        out, err = await asyncio.gather(process.stdout.read(), process.stderr.read())
        return await process.wait(), out.decode(), err.decode()


async def until_it_says(process: asyncio.subprocess.Process, words: str) -> None:
    assert process.stdout is not None
    said = b""
    async with asyncio.timeout(LIMIT):
        while words.encode() not in said:
            more = await process.stdout.read(1)
            assert more, f"it ended after {said!r}"
            said += more


@pytest.mark.parametrize(
    "crash",
    [
        "runs.begin.before",
        "runs.begin.after",
        "runs.end.before",
        "runs.end.after",
        pytest.param("command.accept.after", marks=pytest.mark.slow),
        pytest.param("command.finish.before", marks=pytest.mark.slow),
    ],
)
async def test_the_orchestrator_dies_and_the_shell_gets_the_whole_answer_once(home: Premises, crash: str) -> None:
    await home.kill()
    async with home.revived([crash]) as deaths:
        await waiting.until(lambda: home.process is not None, limit=LIMIT)
        await home.ready()
        shell = await begun(home, "--prompt", "[[say: one]] [[say: two]]")
        status, out, err = await printed(shell)
        assert (status, out.split()) == (0, ["one", "two"]), err
        (run,) = await runs(home)
        assert (run["state"], run["agent"], run["answer"].split()) == ("done", "coder", ["one", "two"])
        assert deaths == [crash]


async def test_in_the_middle_of_an_answer_nothing_is_repeated_or_lost(home: Premises) -> None:
    shell = await begun(home, "--prompt", "[[say: one two ]] [[wait: gate]] [[say: three four]]")
    await until_it_says(shell, "one")
    await home.kill()
    home.models.release("gate")
    await home.start()
    status, rest, err = await printed(shell)
    assert (status, rest.split()) == (0, ["two", "three", "four"]), err
    (run,) = await runs(home)
    assert run["state"] == "done"


async def test_an_agent_host_that_dies_ends_the_run_as_failed(home: Premises) -> None:
    shell = await begun(home, "--prompt", "[[say: one two ]] [[wait: never]]")
    await until_it_says(shell, "one")
    await host_lifecycle.kill(home.paths.agent_folder("coder"))
    status, _, err = await printed(shell)
    assert status == 4, err
    (run,) = await runs(home)
    assert run["state"] == "failed"


async def test_a_shell_that_dies_leaves_the_run_its_time(home: Premises) -> None:
    shell = await begun(home, "--prompt", "[[say: one two ]] [[wait: never]]", "--timeout", "12s")
    await until_it_says(shell, "one")
    with contextlib.suppress(ProcessLookupError):
        os.kill(shell.pid, signal.SIGKILL)
    await shell.wait()
    # The orchestrator dies as well, and its time passes meanwhile.
    await home.kill()
    await home.start()
    await waiting.until(lambda: runs(home), lambda found: found[0]["state"] != "running", limit=LIMIT)
    (run,) = await runs(home)
    assert (run["state"], run["answer"].strip()) == ("timed_out", "one two")
