"""The restart after an update: the orchestrator at once, and each agent when its turn ends."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bot.api_client import Client
from bot.config.paths import Paths
from bot.egress_client.process import stop as stop_egress
from bot.maintenance import versions
from bot.maintenance.update import packages, running_versions
from bot.maintenance.update.running_versions import RunningVersion
from bot.setup.daemon import stop
from bot.text.errors import NotRunning, UserError
from core.errors import MusterError

_START_LIMIT: Final = 120.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Relaunched:
    """The restarts that `relaunch` requested."""

    orchestrator: bool
    """Whether the orchestrator was restarted."""
    egress: bool
    """Whether the egress was restarted."""
    agents: tuple[str, ...]
    """The agents that restart when their turn ends."""
    refused: tuple[str, ...]
    """The agents that could not be restarted, and why; a sentence each."""

    @property
    def began(self) -> bool:
        """Whether there was anything to restart."""
        return self.orchestrator or self.egress or bool(self.agents) or bool(self.refused)


def relaunch(paths: Paths, *, progress: Callable[[str], None] = lambda _: None) -> Relaunched:
    """Restart every process that runs another version than the current one.

    Raises:
        NotRunning: no orchestrator runs, and only it can restart agents.
        UserError: the orchestrator was not started by `muster up --detach`.
        MusterError: the orchestrator did not stop, or did not start again.
    """
    prefix = versions.chosen(paths, packages.ours())
    old = [each for each in running_versions.running(paths) if not each.is_of(prefix)]
    here = [each for each in running_versions.running(paths) if each.agent == running_versions.ORCHESTRATOR]
    behind = [each for each in old if each.agent == running_versions.ORCHESTRATOR]
    agents = [each.agent for each in old if each.agent not in (running_versions.ORCHESTRATOR, running_versions.EGRESS)]
    egress = any(each.agent == running_versions.EGRESS for each in old)
    if agents and not here:
        raise NotRunning(
            f"Muster does not run, and without it agents are not started again: {', '.join(agents)}. `muster up "
            "--detach`, then `muster update --relaunch`."
        )
    if behind:
        progress("restarting the orchestrator")
        _start_anew(paths, prefix, behind[0])
    if egress:
        # This cuts off responses in progress; the orchestrator starts the new egress.
        progress("restarting the egress")
        asyncio.run(stop_egress(paths))
    done, refused = [], []
    for name in agents:
        progress(f"restarting {name}")
        try:
            answer = Client(paths.gateway_socket).run("restart", {"name": name})
        except MusterError as error:
            refused.append(f"{name}: {error}")
            continue
        if answer.status == 200:
            done.append(name)
        else:
            refused.append(f"{name}: {answer.body.get('text') or answer.body.get('error')}")
    return Relaunched(orchestrator=bool(behind), egress=egress, agents=tuple(done), refused=tuple(refused))


def _start_anew(paths: Paths, prefix: Path, orchestrator: RunningVersion) -> None:
    if not running_versions.is_detached(orchestrator.pid, paths.log):
        raise UserError(
            f"The orchestrator (process {orchestrator.pid}) runs in a terminal or under a service manager. Restart "
            "it there, then run `muster update --relaunch` for the agents.",
            code="update.not_relaunched",
        )
    # Its environment may contain tokens and keys that ours does not have.
    environ = _environ_of(orchestrator.pid) or dict(os.environ)
    options = [option for option in ("--no-agents",) if option in running_versions.command_of(orchestrator.pid)]
    stop(paths, agents_too=False)
    command = [str(versions.python_of(prefix)), "-P", "-m", "bot", "up", "--detach", *options]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environ,
            check=False,
            timeout=_START_LIMIT,
            cwd="/",
        )
    except subprocess.TimeoutExpired:
        raise MusterError(f"Muster did not come up again within {_START_LIMIT:.0f} s. See {paths.log}.") from None
    if done.returncode:
        raise MusterError(f"Muster did not come up again. {done.stderr.decode(errors='replace').strip()}")


def _environ_of(pid: int) -> dict[str, str]:
    try:
        content = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}
    pairs = (os.fsdecode(each).partition("=") for each in content.split(b"\0") if each)
    return {name: value for name, _, value in pairs if name not in ("MUSTER_STAY", "PYTHONHOME")}
