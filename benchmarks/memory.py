"""What stays in memory: the orchestrator with two agents that have worked, and one agent host.

RSS is the whole of what a process holds, shared libraries included, so it says too much rather than too little. PSS
counts what is shared in shares: the sum over all processes is what the machine really gives.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.house import house

ORCHESTRATOR_AT_MOST = 150.0
AGENT_HOST_AT_MOST = 110.0
COMMANDS = 50
LIMIT = 120.0

#: What each of the two is made of, imported and nothing else: the floor under the figures above.
_LIBRARIES = {
    "orchestrator": "aiohttp.web, aiosqlite, alembic, apscheduler.schedulers.asyncio, markdown_it, nio, pydantic, "
    "ruamel.yaml, sqlalchemy.ext.asyncio, structlog, yaml",
    "agent host": "acp",
}


def measure() -> list[Figure]:
    """Let two agents work, give some commands, and look."""
    return asyncio.run(_measure())


async def _measure() -> list[Figure]:
    async with asyncio.timeout(LIMIT), house() as home:
        for agent in ("one", "two"):
            thread = await home.launch(agent)
            said = await home.ana.say(home.room, "Say something.", thread=thread)
            await home.marked(said, "✅")
        for _ in range(COMMANDS):
            await home.ask("!ps")
        assert home.process is not None
        hosts = [pid for pid, command in home.processes() if "fleet.host" in command]
        assert len(hosts) == 2, home.processes()
        orchestrator = _memory(home.process.pid)
        host = max((_memory(pid) for pid in hosts), key=lambda memory: memory["Rss"])
    return [
        Figure(name="orchestrator's libraries alone, RSS", value=_libraries("orchestrator"), unit="MB"),
        Figure(name="orchestrator with 2 agents, PSS", value=orchestrator["Pss"], unit="MB"),
        Figure(
            name="orchestrator with 2 agents, RSS", value=orchestrator["Rss"], unit="MB", at_most=ORCHESTRATOR_AT_MOST
        ),
        Figure(name="agent host's libraries alone, RSS", value=_libraries("agent host"), unit="MB"),
        Figure(name="agent host, PSS", value=host["Pss"], unit="MB"),
        Figure(name="agent host, RSS", value=host["Rss"], unit="MB", at_most=AGENT_HOST_AT_MOST),
    ]


def _memory(pid: int | str) -> dict[str, float]:
    """Return what a process holds, in megabytes (1,000,000 bytes), by the kernel's names."""
    found = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, kilobytes = line.split(":")
        found[name] = int(kilobytes.split()[0]) * 1024 / 1e6
    return found


def _libraries(process: str) -> float:
    """RSS of a Python that has imported what the process uses of others."""
    imported = _LIBRARIES[process]
    program = (
        f"import {imported}; print(open('/proc/self/statm').read().split()[1], __import__('resource').getpagesize())"
    )
    printed = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True).stdout
    pages, size = map(int, printed.split())
    return pages * size / 1e6
