"""The built-in agent for a person at a terminal: goes on with a kept session, line by line."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any, Final, cast

from fleet.host.acp import fast_import  # noqa: F401

# isort: split
import acp
from acp import helpers, schema

from fleet.sim.agent.acp_agent import SimAgent
from fleet.sim.agent.session_store import Sessions

_PROMPT: Final = "you> "
_QUIT: Final = "/quit"
#: Exit statuses beside 0.
_FAILED: Final = 1


class _Screen:
    """What the agent speaks to instead of a client of the protocol."""

    async def session_update(self, session_id: str, update: Any, **_: Any) -> None:
        match update:
            case schema.UserMessageChunk(content=schema.TextContentBlock(text=text)):
                _print(f"{_PROMPT}{text}\n")
            case schema.AgentMessageChunk(content=schema.TextContentBlock(text=text)):
                _print(text)
            case schema.ToolCallStart(title=title):
                _print(f"\n* {title}\n")

    async def request_permission(self, **asked: Any) -> schema.RequestPermissionResponse:
        answer = await _line(f"Allow {asked['tool_call'].title}? [y/N] ")
        if answer is not None and answer.strip().lower() in {"y", "yes"}:
            chosen = schema.AllowedOutcome(outcome="selected", option_id="allow_once")
            return schema.RequestPermissionResponse(outcome=chosen)
        return schema.RequestPermissionResponse(outcome=schema.DeniedOutcome(outcome="cancelled"))


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


async def _line(prompt: str) -> str | None:
    """Return what the person writes next; None when nothing more comes."""
    _print(prompt)
    line = await asyncio.to_thread(sys.stdin.readline)
    return line.rstrip("\n") if line else None


def _show_size() -> None:
    size = os.get_terminal_size()
    _print(f"\n[{size.lines} rows, {size.columns} columns]\n{_PROMPT}")


async def _talk(session: str) -> int:
    agent = SimAgent(Sessions(Path.home() / ".muster-sim" / "sessions"))
    agent.on_connect(cast("acp.Client", _Screen()))
    try:
        await agent.load_session(os.getcwd(), session)
    except acp.RequestError:
        _print(f"There is no session {session}.\n")
        return _FAILED
    asyncio.get_running_loop().add_signal_handler(signal.SIGWINCH, _show_size)
    _print(f"\nThe built-in agent. {_QUIT} leaves.\n")
    while (line := await _line(f"\n{_PROMPT}")) is not None and line.strip() != _QUIT:
        if not line.strip():
            continue
        try:
            await agent.prompt(session, [helpers.text_block(line)])
        except acp.RequestError as error:
            _print(f"{error}\n")
    return 0


def main(session: str) -> int:
    """Talk with the person at this terminal in a session, until they leave. Return the exit status."""
    return asyncio.run(_talk(session))
