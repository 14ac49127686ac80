"""Implementation of the command `handover`: who may have which agent in a terminal. The shell then opens it."""

from __future__ import annotations

from typing import Final

from bot.agents import not_started
from bot.agents.services import AgentServices
from bot.agents.sessions import handover_text
from bot.commands.context import Context
from bot.commands.registry import Reply
from bot.commands.syntax import command_line
from bot.spending import gates
from bot.text.errors import UserError
from fleet.runtimes import RUNTIMES

#: Why the egress admits nothing of an agent, in words, and the command that changes it.
_CLOSED: Final = {
    "estop": ("the emergency stop holds", "estop --clear"),
    "cut_off": ("it is cut off", "restore {name}"),
    "paused": ("it is paused, since it used much without a result", "questions"),
    "ended": ("its model access is closed until its next start", "restart {name}"),
}


async def hand_over(ctx: Context[AgentServices], name: str, *, now: bool) -> Reply:
    """Check that the agent can be handed over, and return where its agent host takes the order.

    Raises:
        UserError: it cannot; the message says why and what to do.
    """
    agents = ctx.services.agents
    row = await not_started.get(ctx.services, name)
    agents.make_sure_it_is_ours(row)
    runtime = RUNTIMES.get(row.runtime)
    if runtime is None or not runtime.terminal:
        known = [each.title for each in RUNTIMES.values() if each.terminal]
        raise handover_text.no_terminal(name, row.runtime if runtime is None else runtime.title, known)
    if agents.link(name) is None or row.wanted != "running":
        raise handover_text.not_running(name, row.wanted)
    await _check_gate(ctx, name)
    if (by := agents.handed_to(name)) is not None:
        raise handover_text.handed_over(name, by)
    if agents.turn_of(name) is not None and not now:
        raise handover_text.turn_open(name)
    text = (
        f"{name} is handed over to {runtime.title} in this terminal. It goes on under Muster when you leave it there."
    )
    socket = str(agents.context.starter.socket(name))
    return Reply(text, {"id": ctx.run_id, "agent": name, "by": ctx.identity, "now": now, "socket": socket})


async def _check_gate(ctx: Context[AgentServices], name: str) -> None:
    closed = await gates.load(ctx.services)
    for closure in () if closed is None else closed.of(name).closures:
        if closure.kind in _CLOSED:
            why, command = _CLOSED[closure.kind]
            change = command_line(command.format(name=name))
            raise UserError(
                f"{name} is not handed over: {why}. See {change}. Nothing was changed.",
                code="handover.closed",
            )
