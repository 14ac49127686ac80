"""Report about agents that do not have changed approval rules, for the person who changed them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from bot.approvals.services import ApprovalServices
from bot.commands.syntax import command_line
from bot.text import markdown
from fleet.errors import AgentRefused

#: Seconds that a command waits for agent hosts to take the rules.
WAIT_S: Final = 3.0
#: What to do now, by the code of the refusal; for all others, the agent is restarted.
_WHAT_NOW: Final = {
    "unknown_method": "They are of an earlier version, and ask for everything.",
    "not_writable": "Free disk space there; Muster tries again every 30 seconds.",
    "silent": "They get the rules when they answer again.",
}


async def pushed(services: ApprovalServices, names: Collection[str]) -> Mapping[str, AgentRefused]:
    """Push the rules, and return why agents do not have them, for those of `names` that should."""
    services.agents.rules_changed()
    return await services.agents.rules_refused(names, WAIT_S)


def sentences(refused: Mapping[str, AgentRefused]) -> list[str]:
    """Return a sentence for each reason, with its agents and what to do now."""
    alike: dict[tuple[str, str], list[str]] = {}
    for name, refusal in refused.items():
        alike.setdefault((refusal.refusal, markdown.one_line(str(refusal), 200)), []).append(name)
    found = []
    for (code, why), names in sorted(alike.items()):
        now = _WHAT_NOW.get(code, "")
        if code not in ("not_writable", "silent"):
            restart = command_line(f"restart {names[0]}")
            now = f"{now} {restart}{' and so on' if len(names) > 1 else ''} starts this version.".strip()
        found.append(f"{markdown.some(names)} did not take the rules: {why.rstrip('.')}. {now}")
    return found
