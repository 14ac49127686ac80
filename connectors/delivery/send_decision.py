"""What the lanes of a connector decided: what to write down, and what to send after that."""

from __future__ import annotations

from dataclasses import dataclass, field

from connectors.contract.messages import Outbound
from connectors.delivery.outbox import Row


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """A row to be sent now."""

    row: Row
    outbound: Outbound
    """What to hand to the connector, made to fit what it can do."""
    conversation: str
    target: str | None
    look_first: bool
    """Whether it may stand already, and the chat system would not recognise its key."""
    scope: str
    """The connector's scope for which that was decided; in another one it has to be decided anew."""


@dataclass(kw_only=True, slots=True)
class SendDecision:
    """What to write down, and then what to send."""

    attempts: list[Attempt] = field(default_factory=list)
    superseded: list[tuple[Row, str]] = field(default_factory=list)
    dead: list[tuple[Row, str]] = field(default_factory=list)
    rewritten: list[Row] = field(default_factory=list)
    """Rows with new content, in the order in which they are to be written."""

    def __bool__(self) -> bool:
        return bool(self.attempts or self.superseded or self.dead or self.rewritten)
