"""A disk that takes no more: the agent host stops saying yes, loses nothing, and goes on when there is space again.

The system is made to refuse the agent host's writes by its limit on the size of files (setrlimit(2), RLIMIT_FSIZE): to
the process that is the same as a full disk, and an ordinary user may do it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.control.agent_host_client import AgentLink
from fleet.errors import AgentRefused
from fleet.journal.events import Opened, PermissionAnswered, RuntimeStarted, TextChunk, TurnEnded
from tests.fleet.host.scripted_agent import Agent, status_when, until


def limit(pid: int, size: int) -> None:
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@pytest.mark.slow
async def test_no_message_is_taken_while_the_journal_cannot_be_written(agent: Agent) -> None:
    async with agent.running() as link:
        await until(link, RuntimeStarted)
        limit(link.hello.pid, 0)
        with pytest.raises(AgentRefused) as refused:
            await link.send("m1", "say=never")
        assert refused.value.refusal == "not_writable"
        status = await status_when(link, lambda status: not status.writable)
        assert "cannot be written" in (status.detail or "")
        limit(link.hello.pid, resource.RLIM_INFINITY)
        await status_when(link, lambda status: status.writable)
        await link.send("m1", "say=now")
        await until(link, TurnEnded)
        assert (await link.status()).turns == 1
    assert agent.prompts() == ["say=now"]
    assert [event.continues for event in agent.events(Opened)] == [False, True]


@pytest.mark.slow
async def test_a_running_turn_is_kept_whole_over_a_full_disk(agent: Agent) -> None:
    async with agent.running() as link:
        await link.send("m1", "say=begin ask=go flood=8000 say=end")
        await status_when(link, lambda status: status.state == "waiting")
        limit(link.hello.pid, 0)
        with pytest.raises(AgentRefused, match="full"):
            await link.send("m2", "say=never")
        # The open request is denied, since an answer to it could not be kept; the turn goes on, slowed down.
        await status_when(link, lambda status: not status.writable)
        limit(link.hello.pid, resource.RLIM_INFINITY)
        await until(link, TurnEnded)
    text = "".join(event.text for event in agent.events(TextChunk))
    assert text.startswith("begin[no]")
    assert text.endswith("end")
    assert len(text) == len("begin[no]end") + 8_000_000
    assert [event.outcome for event in agent.events(PermissionAnswered)] == ["denied"]


@pytest.mark.root
@pytest.mark.slow
async def test_on_a_file_system_that_is_truly_full(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a small file system")
    mount = tmp_path / "small"
    mount.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(mount)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"needs root that may mount: {mounted.stderr.decode()}")
    try:
        agent = Agent.make(mount)
        # What the runtime writes down for the test lies elsewhere.
        agent.spec = replace(agent.spec, environment={**agent.spec.environment, "RECORD": str(tmp_path / "record")})
        taken: list[str] = []
        async with agent.running() as link:
            await until(link, RuntimeStarted)
            with full(mount / "ballast"):
                assert await taken_until_refused(link, taken) == "not_writable"
                await status_when(link, lambda status: not status.writable)
            await status_when(link, lambda status: status.writable)
            await link.send("last", "say=last")
            await until(link, TurnEnded, lambda event: event.message == "last")
        ended = [event.message for event in agent.events(TurnEnded)]
        assert ended == [*taken, "last"]
    finally:
        await asyncio.to_thread(unmount, mount)


async def taken_until_refused(link: AgentLink, taken: list[str]) -> str:
    """Send messages until one is refused; the refusal's code."""
    for number in range(200):
        try:
            await link.send(f"m{number}", "say=x " + "y" * 4000)
        except AgentRefused as refusal:
            return refusal.refusal
        taken.append(f"m{number}")
    return "never refused"


@contextlib.contextmanager
def full(ballast: Path) -> Iterator[None]:
    """Fill the file system that `ballast` is on, but for a few kilobytes, and free it again."""
    free = shutil.disk_usage(ballast.parent).free
    ballast.write_bytes(b"\0" * max(0, free - 16384))
    yield
    ballast.unlink()


def unmount(mount: Path) -> None:
    subprocess.run(["umount", "-l", str(mount)], check=True)
