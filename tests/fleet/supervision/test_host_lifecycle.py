from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from fleet.control.agent_host_client import AgentLink
from fleet.errors import AgentUnreachable, FleetError
from fleet.hosting import HOSTINGS, PROCESS, SYSTEMD, TMUX
from fleet.journal.events import RuntimeStarted
from fleet.supervision import host_lifecycle, host_lock
from tests import waiting
from tests.fleet.host.scripted_agent import LIMIT_S, Agent, gone, until
from tests.fleet.hosting.hosting_places import place_for

#: Variables of a tmux server and of a systemd that have run for long.
LEFT_BEHIND = {"LEFT_BEHIND", "PYTHONSTARTUP", "TMUX", "MANAGER"}

#: What runs in every hosting each time; the rest of these tests does so as soak tests.
everywhere = pytest.mark.parametrize("agent", HOSTINGS, indirect=True)
#: What looks into the start of a process that nobody looks after.
in_a_process = pytest.mark.parametrize("agent", [PROCESS], indirect=True)
#: What stops an agent host by a signal: tmux lets its children go on at once.
stopping = pytest.mark.parametrize("agent", [PROCESS, pytest.param(SYSTEMD, marks=pytest.mark.soak)], indirect=True)
#: What holds wherever a start does not wait until the agent host listens.
unattended = pytest.mark.parametrize("agent", [PROCESS, pytest.param(TMUX, marks=pytest.mark.soak)], indirect=True)


pytestmark = pytest.mark.usefixtures("real_hosts")


@pytest.fixture(params=[PROCESS, *(pytest.param(kind, marks=pytest.mark.soak) for kind in (TMUX, SYSTEMD))])
def agent(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agent]:
    with place_for(request.param, tmp_path, monkeypatch):
        yield Agent.make(tmp_path, hosting=request.param)


@everywhere
async def test_a_started_agent_host_belongs_to_nobody_and_inherits_little(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MATRIX_TOKEN", "secret")
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    async with agent.running() as link:
        host = psutil.Process(link.hello.pid)
        assert os.getpid() not in [parent.pid for parent in host.parents()]
        assert os.getsid(host.pid) != os.getsid(0)
        environment = set(host.environ())
        assert "PATH" in environment
        assert not environment & {"MATRIX_TOKEN", "PYTHONPATH", "MUSTER_AGENT", *LEFT_BEHIND}
        opened = [Path(file.path) for file in host.open_files()]
        # It looks through /proc by itself, now and then.
        assert not [
            path for path in opened if not path.is_relative_to(agent.folder) and not path.is_relative_to("/proc")
        ]
    for path in (agent.folder, agent.folder / "journal"):
        assert oct(path.stat().st_mode)[-3:] == "700"
    for name in (host_lifecycle.LOG, host_lifecycle.SPEC, "host.lock"):
        assert oct((agent.folder / name).stat().st_mode)[-3:] == "600"
    assert (agent.folder / host_lifecycle.LOG).read_text() == ""


async def test_what_runs_is_known_by_its_lock(agent: Agent) -> None:
    assert host_lifecycle.is_running(agent.folder) is False
    async with agent.running():
        assert host_lifecycle.is_running(agent.folder) is True
        with pytest.raises(FleetError, match="runs"):
            host_lifecycle.clear_away(agent.folder)
    assert host_lifecycle.is_running(agent.folder) is False


@stopping
async def test_a_stopped_host_is_running_but_does_not_answer(agent: Agent) -> None:
    async with agent.running() as link:
        os.kill(link.hello.pid, signal.SIGSTOP)
        assert host_lifecycle.is_running(agent.folder) is True
        with pytest.raises(AgentUnreachable, match="did not answer hello"):
            await AgentLink.connect(agent.spec.socket, timeout=0.1)


@everywhere
async def test_killing_ends_everything_at_once(agent: Agent) -> None:
    async with agent.running() as link:
        await link.send("m1", "shell hang")
        await until(link, RuntimeStarted)
        assert await host_lifecycle.kill(agent.folder) >= 1
        assert agent.left_over() == []
        assert host_lifecycle.is_running(agent.folder) is False
    assert await host_lifecycle.kill(agent.folder) == 0


async def test_what_a_dead_host_left_is_cleared_away(agent: Agent) -> None:
    await host_lifecycle.spawn(agent.launch())
    async with await AgentLink.connect(agent.spec.socket) as link:
        await link.send("m1", "shell")
        await until(link, RuntimeStarted)
        os.kill(link.hello.pid, signal.SIGKILL)
    await gone(agent)
    host_lifecycle.clear_away(agent.folder)
    assert agent.left_over() == []
    assert host_lifecycle.last_words(agent.folder) == ""
    assert host_lifecycle.tail(agent.folder, 100)[0].event.KIND == "opened"


async def test_a_host_that_cannot_start_says_why(agent: Agent) -> None:
    (agent.folder / "journal").write_text("in the way")
    with pytest.raises(host_lifecycle.SpawnFailed, match="journal"):
        await host_lifecycle.spawn(agent.launch())
    (agent.folder / "journal").unlink()
    with pytest.raises(host_lifecycle.SpawnFailed, match=r"too long|AF_UNIX"):
        await host_lifecycle.spawn(agent.launch(socket=f"{agent.home}/{'s' * 200}"))
    assert host_lifecycle.is_running(agent.folder) is False


async def test_a_host_that_came_and_went_is_no_failure_to_start(agent: Agent) -> None:
    pid = await host_lifecycle.spawn(agent.launch("dies"))
    assert pid > 0
    await gone(agent)
    assert "exit code 7" in host_lifecycle.last_words(agent.folder)


# --- starts that do not go as they should ----------------------------------------------------------------------------

STUCK = """\
#!{python}
import os, time
if {detaches} and os.fork():
    os._exit(0)
time.sleep(300)
"""


def stuck(folder: Path, monkeypatch: pytest.MonkeyPatch, *, detaches: bool) -> None:
    """Let every agent host hang before it takes its lock."""
    program = folder / "stuck"
    program.write_text(STUCK.format(python=sys.executable, detaches=detaches))
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))


def born(agent: Agent) -> list[psutil.Process]:
    """The processes that were started to be the agent's host, whatever has become of them."""
    argument = str(agent.folder / host_lifecycle.SPEC)
    living = [each for each in psutil.process_iter(["cmdline", "status"]) if argument in (each.info["cmdline"] or ())]
    return [each for each in living if each.info["status"] != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize("moment", [0.0, 0.02, 0.05, 0.1, 0.2, 0.4])
async def test_a_cancelled_start_is_done_or_undone(agent: Agent, moment: float) -> None:
    starting = asyncio.create_task(host_lifecycle.spawn(agent.launch()))
    # The moments fall into different parts of a start; whichever they hit, one of the two must hold.
    await asyncio.wait({starting}, timeout=moment)
    starting.cancel()
    await asyncio.wait({starting})
    try:
        assert host_lifecycle.is_running(agent.folder) or not born(agent)
    finally:
        await host_lifecycle.kill(agent.folder)
    assert not born(agent)
    gc.collect()  # what was not closed says so


@unattended
async def test_a_cancelled_start_that_hangs_leaves_no_process(
    agent: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In tmux an agent host stays the child of its window.
    stuck(tmp_path, monkeypatch, detaches=agent.spec.hosting == PROCESS)
    monkeypatch.setattr(host_lifecycle, "SETTLE_S", 0.1)
    starting = asyncio.create_task(host_lifecycle.spawn(agent.launch()))
    async with asyncio.timeout(LIMIT_S):
        while not born(agent):
            await asyncio.wait({starting}, timeout=0.02)
    starting.cancel()
    starting.cancel()
    await asyncio.wait({starting})
    assert starting.cancelled()
    assert not born(agent)


@in_a_process
@pytest.mark.parametrize(("detaches", "words"), [(True, "did not come up"), (False, "did not detach")])
async def test_a_host_that_hangs_before_its_lock_is_ended(
    agent: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, detaches: bool, words: str
) -> None:
    stuck(tmp_path, monkeypatch, detaches=detaches)
    monkeypatch.setattr(host_lifecycle, "DETACH_S", LIMIT_S if detaches else 0.5)
    with pytest.raises(host_lifecycle.SpawnFailed, match=words) as failure:
        await host_lifecycle.spawn(agent.launch(), timeout_s=0.5)
    assert not isinstance(failure.value, host_lifecycle.HostNotReady)
    assert not born(agent)


@in_a_process
@pytest.mark.slow
async def test_a_host_that_hangs_with_its_lock_is_left_alone(agent: Agent) -> None:
    answering = asyncio.create_task(host_lifecycle.spawn(agent.launch(), timeout_s=2))
    async with asyncio.timeout(LIMIT_S):
        while not host_lock.holder(agent.folder):
            await asyncio.wait({answering}, timeout=0.005)
    pid = host_lock.holder(agent.folder)
    assert pid
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(host_lifecycle.HostNotReady, match="did not answer in 2 s"):
            await answering
        assert host_lifecycle.is_running(agent.folder)
        os.kill(pid, signal.SIGCONT)

        async def answers() -> bool:
            with contextlib.suppress(AgentUnreachable):
                async with await AgentLink.connect(agent.spec.socket):
                    return True
            return False

        await waiting.until(answers, limit=LIMIT_S)
    finally:
        await host_lifecycle.kill(agent.folder)
