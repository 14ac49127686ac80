"""Muster's own tools for agents: what an agent host offers its runtime over the Model Context Protocol.

What a tool does is the orchestrator's business (`bot.interfaces.mcp.server`). Here is what both sides must agree on,
and how a runtime reaches its agent host: a bridge program that it starts as an MCP server, which carries bytes to a
socket that is this agent's alone.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fleet import program_lookup

#: The name of the server, as runtimes show it; Claude Code calls its tools ``mcp__muster__report``.
SERVER: Final = "muster"
#: Characters of a call's arguments, as JSON.
ARGUMENTS_LIMIT: Final = 20_000
#: Characters of an answer.
ANSWER_LIMIT: Final = 50_000
BRIDGE: Final = Path(__file__).with_name("mcp_stdio_bridge.py")


def arguments(required: Sequence[str], **properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of a tool's arguments. No others are taken."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(required),
        "additionalProperties": False,
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class Tool:
    """One tool as it is offered."""

    name: str
    description: str
    input_schema: Mapping[str, Any]
    queued: bool = False
    """It is done even when the orchestrator is away at the time: later, once. Every other tool is done now or never."""

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "description": self.description,
            "input_schema": dict(self.input_schema),
            "queued": self.queued,
        }

    @classmethod
    def from_json(cls, source: Mapping[str, Any]) -> Tool:
        return cls(**source)


def server(socket: Path, interpreter: str | None = None) -> dict[str, Any]:
    """Return how a runtime starts the bridge to `socket` (Agent Client Protocol, ``mcpServers``).

    Args:
        socket: as the runtime sees it.
        interpreter: a container's own; None: the one that Muster runs on.
    """
    # The interpreter alone: nothing of Muster's, and nothing of a workspace's, is imported.
    return {
        "name": SERVER,
        "command": interpreter or str(_interpreter()),
        "args": ["-I", "-S", str(BRIDGE), str(socket)],
        "env": [],
    }


def readonly(*, of_host: bool = True) -> tuple[Path, ...]:
    """Return what a sandbox must show for the bridge to run.

    Args:
        of_host: it runs on the interpreter that Muster runs on.
    """
    if not of_host:
        return (BRIDGE,)
    of_the_system = any(_interpreter().is_relative_to(folder) for folder in program_lookup.SYSTEM)
    return (BRIDGE,) if of_the_system else (*program_lookup.python_paths(), BRIDGE)


def _interpreter() -> Path:
    return Path(sys.executable).resolve()
