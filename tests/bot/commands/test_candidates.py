"""What a prompt offers after each key."""

from collections.abc import Sequence
from typing import Literal

import pytest

from bot.auth.permission import VIEWER
from bot.commands.argument_types import AgentName, Rest, RuntimeName
from bot.commands.candidates import candidates
from bot.commands.context import Context
from bot.commands.registry import CommandTable, Reply
from bot.commands.services import CommandServices


@pytest.fixture
def table() -> CommandTable:
    table = CommandTable()

    @table.command("launch", permission=VIEWER, help_section="x")
    async def launch(
        ctx: Context[CommandServices],
        name: AgentName,
        *,
        runtime: RuntimeName | None = None,
        by: Literal["agent", "role"] = "agent",
        now: bool = False,
    ) -> Reply:
        """X."""
        return Reply("")

    @table.command("send", permission=VIEWER, help_section="x")
    async def send(ctx: Context[CommandServices], name: AgentName, text: Rest) -> Reply:
        """X."""
        return Reply("")

    @table.command("grant revoke", permission=VIEWER, help_section="x")
    async def grant_revoke(ctx: Context[CommandServices], id: str) -> Reply:
        """X."""
        return Reply("")

    return table


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("!", ["!launch", "!send", "!grant", "!confirm", "!decline"]),
        ("!la", ["!launch"]),
        ("!grant ", ["revoke"]),
        ("!grant x", []),
        ("!send ", ["coder0", "coder1"]),
        ("!send coder1", ["coder1"]),
        ("!send coder1 ", []),
        ("!launch --by role c", ["coder0", "coder1"]),
        ("!launch x --", ["--runtime", "--by", "--now"]),
        ("!launch x --now --", ["--runtime", "--by"]),
        ("!launch x --runtime s", ["sim"]),
        ("!launch x --by ", ["agent", "role"]),
        ("!launch x ", []),
        ("!nothing x", []),
        ("la", []),
        ("", []),
    ],
)
async def test_what_can_follow(table: CommandTable, text: str, found: list[str]) -> None:
    async def words_of(source: str) -> Sequence[str]:
        return {"agents": ["coder0", "coder1"], "runtimes": ["claude", "sim"]}[source]

    assert await candidates(table, text, words_of) == found
