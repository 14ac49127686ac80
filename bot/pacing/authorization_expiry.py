"""The end of an authorization: recorded once, and announced once in the chat room."""

from __future__ import annotations

from typing import Literal

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.approvals.services import ApprovalServices
from bot.commands.syntax import command_line
from bot.messaging import rooms
from bot.text import markdown
from budget import amounts
from database.queries.spending import pacing_windows
from database.queries.spending.pacing_windows import AuthorizationRow


async def end(
    services: ApprovalServices, tx: AsyncConnection, row: AuthorizationRow, how: Literal["used", "over"], now: float
) -> None:
    """End an authorization that is used up or expired, and announce it in the same transaction.

    Do nothing if it has already ended.
    """
    if not await pacing_windows.end(tx, row.id, how, now):
        return
    amount = amounts.amount(row.amount, row.unit)
    words = {
        "used": f"⚖️ What was authorized for {markdown.code(row.scope)} ({amount}) is used up",
        "over": f"⚖️ The time of what was authorized for {markdown.code(row.scope)} ({amount}) is over",
    }
    text = f"{words[how]}: it spends at its pace, which {command_line('pace')} shows."
    await rooms.say(services, tx, f"authorization/{row.id}/{how}", text)
