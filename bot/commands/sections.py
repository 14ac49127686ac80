"""The sections of the command table, in the order of the help."""

from __future__ import annotations

from importlib import import_module

from bot.commands.registry import TABLE, CommandTable

#: The modules that declare the commands.
MODULES = (
    "bot.agents.commands",
    "bot.agents.review.commands",
    "bot.agents.sessions.commands",
    "bot.agents.roster.commands",
    "bot.agents.messages.commands",
    "bot.runs.commands",
    "bot.issue_runs.commands",
    "bot.projects.commands",
    "bot.approvals.commands",
    "bot.spending.commands",
    "bot.tasks.commands",
    "bot.reports.commands",
    "bot.monitoring.commands",
    "bot.web_access.commands",
)


def load() -> CommandTable:
    """Return the table with every command of Muster. A second call is harmless."""
    for module in MODULES:
        import_module(module)
    return TABLE
