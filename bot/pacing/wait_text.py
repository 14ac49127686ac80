"""Texts about waiting work: when it runs, and what lets it run now. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import tzinfo

from bot.commands.syntax import command_line
from bot.text import timestamps
from budget.dispatch.next_task import TaskWait
from budget.scope_names import shown_scope
from budget.windows.pace_admission import Leave
from budget.windows.window_key import WindowKey


def authorize_command(scope: str, amount: float, unit: str) -> str:
    """Return the command that authorizes this amount now, rounded up to a short number."""
    if unit == "share":
        written = f"{math.ceil(amount * 1000) / 10:g}%"
    elif unit == "usd":
        written = f"{math.ceil(amount * 100) / 100:.2f}usd"
    else:
        step = 10 ** max(0, len(str(int(amount))) - 3)
        written = f"{math.ceil(amount / step) * step:.0f}"
    return command_line(f"budget authorize {shown_scope(scope)} {written} --for 1h")


def ways(leave: Sequence[Leave]) -> str:
    """Return all commands that are needed, as part of a sentence."""
    return " and ".join(authorize_command(each.scope, each.amount, each.unit) for each in leave)


def when(wait: TaskWait, now: float, zone: tzinfo, *, before: int = 0) -> str:
    """Return when the work runs and what lets it run now, as one or two sentences; `before` tasks are ahead of it."""
    said = []
    if wait.never and not wait.leave:
        said.append("Only another limit lets it begin.")
    elif wait.look_at is not None and wait.why in ("pace", "limit", "unknown", "price", "retry"):
        said.append(f"It runs about {timestamps.shown(wait.look_at, zone, now)} ({zone}).")
    elif wait.reset_unknown:
        said.append(_reset_unknown(wait.windows[0] if wait.windows else ""))
    if wait.leave:
        others = f", and {before} before it" if before else ""
        said.append(f"To run it now{others}, an admin writes {ways(wait.leave)}.")
        if wait.task:
            said.append(f"{command_line(f'task now {wait.task}')} authorizes that, and has it go first.")
    elif wait.critical and not wait.never:
        urgent = command_line("task add TEXT --urgency critical")
        said.append(
            f"Before that only a higher limit lets it begin; or {urgent}, which may pass the limit within what an "
            "admin authorizes."
        )
    return " ".join(said)


def _reset_unknown(key: str) -> str:
    """Return why no time is known, and which command sets the reset of an account's window."""
    said = WindowKey.parse(key)
    if not said.account:
        return "Its start time is unknown, because it is unknown when that window resets."
    command = command_line(
        f'budget set account:{said.account} 100% --window {said.window} --reset-at "YYYY-MM-DD HH:MM"'
    )
    return f"Its start time is unknown, because it is unknown when that window resets. {command} sets that."
