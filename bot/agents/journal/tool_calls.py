"""Calls of Muster's own tools by agents, as rows of the register. Pure."""

from __future__ import annotations

import hashlib

from database.queries.agents.tool_calls import ToolCallRow
from fleet.journal.events import ToolAsked


def call_id(agent: str, call: str) -> str:
    """Return the id under which the call is processed once."""
    return f"k{hashlib.blake2s(f'{agent}/{call}'.encode()).hexdigest()[:24]}"


def call_of(agent: str, asked: ToolAsked, at: float) -> ToolCallRow:
    return ToolCallRow(
        id=call_id(agent, asked.call),
        agent=agent,
        call=asked.call,
        tool=asked.tool,
        arguments=asked.arguments,
        queued=asked.queued,
        state="pending",
        asked_at=at,
        updated_at=at,
        turn=asked.turn,
    )
