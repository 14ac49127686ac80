"""What something newer makes needless.

- Of the changes of one message only the newest is kept; that of a message which was never tried is merged into it.
- Changes that show progress are at least `PROGRESS_GAP` apart.
- Of receipts on one message only the newest is needed, and so it is with a thread's names: a name that has to wait
  for a limit of the chat system is never sent when there is a newer one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from connectors.contract.messages import Message, OpenThread, Priority, React, Replace, Retitle
from connectors.delivery.outbox import Row

#: Seconds between two changes of one message that show progress.
PROGRESS_GAP: Final = 1.0


def is_change(row: Row) -> bool:
    """Return whether it changes a message of ours."""
    return isinstance(row.outbound.content, Replace)


def last_word(rows: Sequence[Row], row: Row, content: Replace) -> Row | None:
    """Return which of `rows`, all about the same message, makes the change `row` needless."""
    for other in rows:
        change = other.outbound.content
        if isinstance(change, Replace) and ((change.final and not content.final) or other.seq > row.seq):
            return other
    return None


def merged(target: Row, change: Replace, priority: Priority) -> Row | None:
    """`target` as it reads after `change`; None when it cannot be changed, or may have been said already."""
    if target.attempts:
        return None
    match target.outbound.content:
        case Message() as old:
            content: Message | OpenThread = replace(change.message, reply_to=old.reply_to or change.message.reply_to)
        case OpenThread(title=title, message=old):
            content = OpenThread(
                title=title, message=replace(change.message, reply_to=old.reply_to or change.message.reply_to)
            )
        case _:
            return None
    urgency = min(target.outbound.priority, priority)
    return replace(target, outbound=replace(target.outbound, content=content, priority=urgency))


def is_receipt(row: Row) -> bool:
    """Return whether it says by a reaction how far a person's message has come."""
    content = row.outbound.content
    return row.outbound.priority is Priority.RECEIPT and isinstance(content, React) and not content.own


def newer_name(rows: Sequence[Row]) -> Row | None:
    """Return which of `rows`, all of one thread's lane and in their order, makes the first row, a name, needless."""
    return rows[1] if len(rows) > 1 and isinstance(rows[0].outbound.content, Retitle) else None


class ProgressGaps:
    """When progress was last shown in each message."""

    def __init__(self) -> None:
        self._shown: dict[str, float] = {}

    def earliest(self, row: Row) -> float:
        """Return when a row may go as far as this gap is concerned."""
        if (target := _progress_of(row)) is None:
            return 0.0
        return self._shown.get(target, -PROGRESS_GAP) + PROGRESS_GAP

    def shown(self, row: Row, now: float) -> None:
        """A row goes now."""
        if (target := _progress_of(row)) is None:
            return
        self._shown[target] = now
        if len(self._shown) > 1000:
            self._shown = {key: when for key, when in self._shown.items() if now - when < PROGRESS_GAP}

    def clear(self) -> None:
        """Forget all of it: the clock was set back."""
        self._shown.clear()


def _progress_of(row: Row) -> str | None:
    """Return the message in which a row shows progress."""
    content = row.outbound.content
    return content.target if isinstance(content, Replace) and row.outbound.priority is Priority.PROGRESS else None
