"""The sections of the command table, in the order in which the help shows them."""

from __future__ import annotations

from importlib import import_module

from bot.commands.registry import TABLE, CommandTable

#: The modules that declare them.
MODULES = (
    "bot.agents.commands",
    "bot.agents.roster.commands",
    "bot.agents.messages.commands",
    "bot.approvals.commands",
    "bot.spending.commands",
    "bot.tasks.commands",
    "bot.reports.commands",
    "bot.monitoring.commands",
)


def load() -> CommandTable:
    """Return the table with every command of Muster in it. Safe to call twice."""
    for module in MODULES:
        import_module(module)
    return TABLE
