"""Which agents a rule does not reach, because of what their runtimes ask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bot.text.markdown import some
from database.queries.agents.agents import AgentRow
from fleet.approval_rules.rules import Kind
from fleet.runtimes import RUNTIMES


def limits(rows: Sequence[AgentRow], kind: Kind | None) -> list[str]:
    """Return a sentence for each runtime of these agents that rules of this kind do not reach, and what holds then."""
    return [
        f"{some(whose)}: {sentence}"
        for name in RUNTIMES
        if (whose := [row.name for row in rows if row.runtime == name])
        for sentence in _limits(name, kind)
    ]


def _limits(name: str, kind: Kind | None) -> Iterator[str]:
    runtime = RUNTIMES[name]
    if not runtime.asks:
        yield f"{runtime.title} never asks for permission, so no rule reaches it. Only a sandbox restricts it."
    elif name == "custom":
        yield (
            "Muster does not know the requests of an ACP agent of your own, so people are asked about each of them. "
            "What it does without asking, only a sandbox restricts."
        )
    elif kind == "mcp" and runtime.unruled_tools:
        yield (
            f"No rule about tools of MCP servers reaches {runtime.title}. {runtime.unruled_tools} What an agent may do "
            "with Muster's tools is in its role."
        )
