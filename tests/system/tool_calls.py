"""What came of agents' calls of Muster's own tools: what each did, and what the agent was told of it, do not differ."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from bot.agents.journal.tool_calls import call_id
from fleet.journal import reader
from fleet.journal.events import JournalPosition, ToolAnswered, ToolAsked
from tests.operator_client import body
from tests.system.matrix_installation import Installation


@dataclass(frozen=True, slots=True)
class Told:
    """A call that stands in the agent's journal."""

    id: str
    """As the register knows it."""
    tool: str
    outcome: str | None
    """As the agent was told: done, refused, lapsed (nothing, or later where it is queued), unknown. None: it died."""


def order(tool: str, **arguments: object) -> str:
    """What makes the simulated model call a tool of Muster's."""
    return f"[[tool: mcp__muster__{tool} {json.dumps(arguments)}]]"


def told(home: Installation, agent: str, word: str = "") -> list[Told]:
    """The calls of an agent, with this word in their arguments, in order."""
    entries = reader.read(home.paths.agent_folder(agent), JournalPosition(), 100_000)
    asked = [entry.event for entry in entries if isinstance(entry.event, ToolAsked)]
    answers = {entry.event.call: entry.event.outcome for entry in entries if isinstance(entry.event, ToolAnswered)}
    return [
        Told(call_id(agent, each.call), each.tool, answers.get(each.call))
        for each in asked
        if word in json.dumps(each.arguments)
    ]


def check(call: Told, acted: int) -> None:
    """Compare what an agent was told of a call with how often the call has acted.

    Raises:
        AssertionError: it was told something else than what happened, or it happened twice.
    """
    queued = call.tool in {"send_message", "report"}
    honest = {"done": (1,), "lapsed": (1,) if queued else (0,), "unknown": (0, 1), None: (1,) if queued else (0, 1)}
    assert call.outcome in honest, call
    assert acted in honest[call.outcome], f"{call} has acted {acted} times"


def read_by_model(home: Installation, word: str) -> int:
    """How often a model read this word as another agent's."""
    return sum(
        word in entry.text and "writes to you, in thread" in entry.text and entry.results == 0
        for entry in home.models.ledger.entries
    )


async def said(home: Installation, beginning: str, word: str = "") -> int:
    """How many of the bot's messages began so, with this word in them."""
    messages: list[Any] = await home.ana.messages(home.room, home.bot.user_id)
    first = [body(event) for event in messages if "m.new_content" not in event["content"]]
    return sum(text.startswith(beginning) and word in text for text in first)
