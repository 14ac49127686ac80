"""What an agent orders to be written at the forge, as an order of the register has it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncConnection

from database.queries.forge import forge_orders
from database.queries.forge.forge_orders import ForgeOrder

_PREFIX: Final = "tool/"
#: The kinds of orders by tool. They stand in registers, so they stay.
KINDS: Final[Mapping[str, str]] = {
    "post_comment": "tool_comment",
    "update_description": "tool_description",
    "request_review": "tool_review",
}
#: The outcome of an order that was carried out.
DONE: Final = "done"


@dataclass(frozen=True, slots=True)
class WriteOrder:
    """One write of an agent."""

    call: str
    agent: str
    tool: str
    number: int
    """Of the issue if it is for a pull request that is not there yet."""
    body: str = ""
    people: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return key_of(self.call)

    def as_order(self, run: str, now: float) -> ForgeOrder:
        """Return the order of the register."""
        given = {
            "call": self.call,
            "agent": self.agent,
            "tool": self.tool,
            "number": str(self.number),
            "body": self.body,
            "people": json.dumps(self.people),
        }
        return ForgeOrder(key=self.key, run=run, kind=KINDS[self.tool], input=given, try_at=now, created_at=now)

    @classmethod
    def of(cls, order: ForgeOrder) -> WriteOrder:
        given: Mapping[str, Any] = order.input
        return cls(
            call=str(given["call"]),
            agent=str(given["agent"]),
            tool=str(given["tool"]),
            number=int(given["number"]),
            body=str(given["body"]),
            people=tuple(json.loads(given["people"])),
        )


def key_of(call: str) -> str:
    """Return the key of the order that a call makes."""
    return f"{_PREFIX}{call}"


def writes(orders: Iterable[ForgeOrder]) -> list[ForgeOrder]:
    """Return those of a run's orders that its agent made."""
    return [order for order in orders if order.kind in KINDS.values()]


async def kept_description(tx: AsyncConnection, run: str) -> str | None:
    """Return the text that a run's agent wrote last for its pull request; None if it wrote none."""
    newest = newest_description(await forge_orders.of_run(tx, run))
    return None if newest is None else WriteOrder.of(newest).body


def newest_description(orders: Iterable[ForgeOrder]) -> ForgeOrder | None:
    """Return the order that sets the text of a pull request last."""
    kind = KINDS["update_description"]
    return max(
        (each for each in orders if each.kind == kind), key=lambda each: (each.created_at, each.key), default=None
    )
