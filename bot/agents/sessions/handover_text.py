"""Refusals of `handover`, as the orchestrator and the shell say them. Pure, and imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence

from bot.commands.syntax import command_line
from bot.text import markdown
from bot.text.errors import UserError
from fleet.errors import AgentRefused

_NOTHING = "Nothing was changed."


def not_running(name: str, wanted: str) -> UserError:
    """Return the refusal for an agent that does not run."""
    verb = {"frozen": "resume", "stopped": "launch"}.get(wanted, "restart")
    return UserError(
        f"{name} does not run, so nothing can be handed over. {command_line(f'{verb} {name}')} starts it. {_NOTHING}",
        code="agent.not_running",
    )


def no_terminal(name: str, title: str, known: Sequence[str]) -> UserError:
    """Return the refusal for a runtime without a known terminal program.

    Args:
        name: the agent.
        title: its runtime's title.
        known: titles of the runtimes that have one.
    """
    return UserError(
        f"{name} runs {title}, of which Muster knows no terminal program that goes on with a conversation. "
        f"These have one: {', '.join(known)}. {_NOTHING}",
        code="handover.no_terminal",
    )


def turn_open(name: str) -> UserError:
    """Return the refusal for an agent in the middle of a turn."""
    now = command_line(f"handover {name} --now")
    return UserError(
        f"{name} works on a turn. Try again when it is over, or cancel it for this: {now}. {_NOTHING}",
        code="handover.turn_open",
    )


def handed_over(name: str, by: str) -> UserError:
    """Return the refusal for an agent that somebody has."""
    return UserError(
        f"{markdown.one_line(by, 100)} has {name} in a terminal already. It is free once they leave the program there; "
        f"{command_line(f'freeze {name} --now')} ends it. {_NOTHING}",
        code="handover.taken",
    )


def refused(name: str, refusal: AgentRefused) -> UserError:
    """Return a refusal of the agent host in terms of commands.

    Args:
        name: the agent.
        refusal: what the agent host said.
    """
    match refusal.refusal:
        case "turn_open":
            return turn_open(name)
        case "unknown_method" | "no_terminal":
            again = command_line(f"restart {name}")
            return UserError(
                f"{name} was started by an earlier version, which hands nothing over. {again} updates it. {_NOTHING}",
                code="agent.outdated",
            )
        case "no_session":
            return UserError(
                f"{name} has no conversation that a terminal program could go on with. Send it a message first. "
                f"{_NOTHING}",
                code="handover.no_session",
            )
        case "starting" | "stopping":
            return UserError(
                f"{name} is not ready: {markdown.one_line(str(refusal), 200)} Try again in a moment. {_NOTHING}",
                code="agent.not_running",
            )
        case "terminal_failed":
            return UserError(
                f"The terminal program of {name} did not start, and the agent goes on: "
                f"{markdown.one_line(str(refusal), 300)}",
                code="handover.failed",
            )
        case _:
            return UserError(
                f"{name} was not handed over: {markdown.one_line(str(refusal), 300)}", code="handover.failed"
            )
