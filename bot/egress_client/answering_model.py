"""The comparison of the model that answered a turn with the requested model.

The egress meters every request with the model that the runtime named and the one that answered. A runtime also uses
smaller models for titles or side tasks. So a turn is correct if any of its answers came from the requested model.
Another model is reported only if none did.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.commands.syntax import command_line
from bot.messaging.services import MessagingServices
from bot.text import markdown
from database.queries.agents import agent_messages, agents
from egress.ledger.model import LedgerEntry
from fleet.model_names import is_same
from fleet.supervision.restart_policy import asked_for

#: Seconds, at least and at most, to wait after a turn's last request: its end may be recorded later.
_SETTLES_S: Final = 2.0
_PATIENCE_S: Final = 60.0
#: Turns, and requests per turn, to remember.
_MOST_TURNS: Final = 2_000
_MOST_ANSWERS: Final = 500
#: States of a message whose turn is not over.
_UNDER_WAY: Final = ("pending", "journaled", "accepted", "withdrawing")


@dataclass(frozen=True, kw_only=True, slots=True)
class CompletedRequest:
    """One completed request."""

    asked: str | None
    """The model that the runtime named."""
    model: str
    """The one that answered."""
    tokens: int
    """Its total tokens."""


def other_model(wanted: str, answers: Sequence[CompletedRequest], *, whole: bool) -> str | None:
    """Return the model that answered a turn in place of the requested one.

    Args:
        wanted: the model as the launch or the roster names it.
        answers: the completed requests of the turn.
        whole: whether the turn completed normally. Otherwise, its main request may be missing.

    Returns:
        The other model with the most tokens; None if the requested one answered, or if too little is known.
    """
    if any(is_same(wanted, answer.model) for answer in answers):
        return None
    meant = [answer for answer in answers if answer.asked is not None and is_same(wanted, answer.asked)]
    if not meant and not whole:
        return None
    used = Counter[str]()
    for answer in meant or answers:
        used[answer.model] += answer.tokens
    return max(used, key=lambda model: (used[model], model), default=None)


@dataclass(slots=True)
class _Turn:
    answers: list[CompletedRequest]
    at: float
    """When the last of its requests was copied."""


@dataclass(slots=True)
class AnsweringModels:
    """The comparison for the agents of one host. It loses its data at a restart; the next turn provides new data."""

    services: MessagingServices
    _turns: dict[tuple[str, str, str], _Turn] = field(default_factory=dict)
    """By agent, launch and turn."""

    def heard(self, entries: Iterable[LedgerEntry]) -> None:
        """Add metered requests."""
        now = self.services.clock()
        for entry in entries:
            if entry.turn is None or entry.model is None or entry.ended != "completed":
                continue
            key = entry.agent, entry.launch_id, entry.turn
            if key not in self._turns and len(self._turns) >= _MOST_TURNS:
                continue
            turn = self._turns.setdefault(key, _Turn([], now))
            turn.at = now
            if len(turn.answers) < _MOST_ANSWERS:
                tokens = entry.tokens.total
                turn.answers.append(CompletedRequest(asked=entry.model_asked, model=entry.model, tokens=tokens))

    def ripe(self) -> list[tuple[str, str, str]]:
        """Return the turns that are over as far as is known."""
        now = self.services.clock()
        return [
            key
            for key, turn in self._turns.items()
            if now - turn.at >= _SETTLES_S and self.services.agents.turn_of(key[0]) != key[2]
        ]

    async def judge(self, tx: AsyncConnection, key: tuple[str, str, str]) -> tuple[str, str] | None:
        """Record which model answered a turn.

        Returns:
            A key and a sentence for the agent's thread; None if there is nothing to report.
        """
        name, launch_id, turn = key
        row = await agents.get(tx, name)
        if row is None or row.launch_id != launch_id or row.model is None:
            del self._turns[key]
            return None
        told = await agent_messages.of_turn(tx, name, turn)
        if any(each.state in _UNDER_WAY for each in told) and self.services.clock() - self._turns[key].at < _PATIENCE_S:
            return None
        whole = any(each.state == "finished" and each.detail is None for each in told)
        other = other_model(row.model, self._turns.pop(key).answers, whole=whole)
        if other != row.model_answering:
            await agents.change(tx, name, under=launch_id, model_answering=other)
        if other is None:
            return None
        words = hashlib.blake2s(other.encode(), digest_size=8).hexdigest()
        restart = command_line(f"restart {name}")
        return f"model/{name}/{asked_for(launch_id)}/{words}", (
            f"⚠️ Another model answers {name}: {markdown.code(markdown.one_line(other, 80))} instead of "
            f"{markdown.code(row.model)}. Correct `model` or `account` in roster.yaml, then {restart}."
        )
