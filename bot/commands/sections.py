"""The sections of the command table, in the order in which the help shows them."""

from __future__ import annotations

from importlib import import_module

from bot.commands.table import TABLE, CommandTable

SECTIONS = ("fleet", "roster", "talking", "approvals", "budget", "tasks", "reports", "admin")


def load() -> CommandTable:
    """The table with every command of Muster in it. Safe to call twice."""
    for section in SECTIONS:
        import_module(f"bot.commands.{section}")
    return TABLE
