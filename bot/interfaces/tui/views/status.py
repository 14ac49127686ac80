"""The two lines on top: where documents come from, and the pages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bot.interfaces.tui.feeds.switching_source import SourceState
from bot.read_models.fleet import FleetModel
from bot.text.markdown import span


def state_line(state: SourceState, fleet: FleetModel | None, waiting: int, now: float) -> list[tuple[str, str]]:
    """Return pieces of the line and their styles."""
    age = span(now - state.since)
    parts: list[tuple[str, str]] = [(" Muster ", "bold")]
    if state.mode == "live":
        parts.append(("● live", "$text-success"))
    elif state.mode == "connecting":
        parts.append(("◌ connecting", "$text-warning"))
    elif state.mode == "lost":
        parts.append((f"✗ {state.why} Shown as it was {age} ago.", "$text-error bold"))
    elif state.standby is not None:
        parts.append((f"◐ standby: {state.standby}", "$text-warning bold"))
    else:
        parts.append((f"✗ Muster is down: agents and their journals, for {age}", "$text-error bold"))
    if fleet is not None:
        if fleet.estop is not None:
            parts.append(("  EMERGENCY STOP", "$text-error bold"))
        counts = Counter(agent.state for agent in fleet.agents)
        said = ", ".join(
            f"{counts[each]} {each}" for each in ("working", "waiting", "failed", "unknown") if counts[each]
        )
        count = f"{len(fleet.agents):,} agent{'' if len(fleet.agents) == 1 else 's'}"
        parts.append((f"  {count}{f': {said}' if said else ''}", ""))
    if waiting:
        parts.append((f"  {waiting} to answer", "$text-warning bold"))
    return parts


def tab_line(titles: Sequence[str], shown: int, waiting: int) -> list[tuple[str, str]]:
    """Return the names of the pages with their keys."""
    parts: list[tuple[str, str]] = []
    for place, title in enumerate(titles):
        count = f" ({waiting})" if title == "Waiting" and waiting else ""
        parts.append((f" {place + 1} {title}{count}", "reverse bold" if place == shown else ""))
    return parts
