"""Agents whose runtime does what the tests tell it, good or bad, in a house (`tests.fleet.runtimes`)."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.bot.orchestrator import House
from tests.fleet import runtimes

PUPPET = Path(runtimes.__file__).with_name("fake_runtime.py")
SCRIPTED = Path(runtimes.__file__).with_name("scripted.py")


def roster(folder: Path, *names: str) -> str:
    """A roster of puppets: each does the steps that its prompts hold (`tests.fleet.runtimes.fake_runtime`)."""
    return _roster({name: [sys.executable, "-S", str(PUPPET), str(record(folder, name))] for name in names}, folder)


def scripted(folder: Path, **scenarios: str) -> str:
    """A roster of agents that follow a scenario of `tests.fleet.runtimes.scripted`."""
    return _roster({name: [sys.executable, "-S", str(SCRIPTED), what] for name, what in scenarios.items()}, folder)


def record(folder: Path, name: str) -> Path:
    """Where the runtime of `name` writes what it was given."""
    return folder / f"{name}.jsonl"


def recorded(folder: Path, name: str) -> list[dict[str, Any]]:
    path = record(folder, name)
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _roster(commands: dict[str, list[str]], folder: Path) -> str:
    entries = [
        {
            "name": name,
            "runtime": "custom",
            "sandbox": "none",
            "command": command,
            "env": {"RECORD": str(record(folder, name))},
        }
        for name, command in commands.items()
    ]
    return json.dumps({"version": 1, "agents": entries})


async def launch(home: House, name: str) -> str:
    """Launch a puppet and wait until it is ready. Returns its thread."""
    await home.ask(f"!launch {name}")
    thread = await home.thread(name)
    await home.heard(thread, "Ready")
    return thread


def steps(*steps: dict[str, Any]) -> str:
    """A prompt that makes a puppet do these steps."""
    return json.dumps(steps)
