"""A summary of an agent's conversation, for a session that cannot have the conversation itself. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from bot.read_models.agent import NoticeItem, SaidItem, ToolItem, TurnItem, TurnModel

#: Characters of a whole summary, of a message in it, and of one answer and one action.
CHARACTERS: Final = 24_000
_MESSAGE: Final = 2_000
_SAID: Final = 3_000
_ACTION: Final = 300


def summary(turns: Sequence[TurnModel]) -> str:
    """Return what was asked, said and done, oldest first. What is left out is older than what is kept.

    Thoughts and the results of actions are left out, and long texts are cut in the middle.
    """
    kept: list[str] = []
    left = CHARACTERS
    for line in _newest_first(turns):
        left -= len(line) + 1
        if left < 0:
            kept.append("(What came before is left out.)")
            break
        kept.append(line)
    return "\n".join(reversed(kept))


def _newest_first(turns: Iterable[TurnModel]) -> Iterator[str]:
    for turn in reversed(list(turns)):
        if turn.ended_at is None and turn.turn is not None:
            yield "(This turn goes on.)"
        for item in reversed(turn.items):
            if (line := _line(item)) is not None:
                yield line
        if turn.asked is not None:
            yield f"Message from {turn.asked_by or 'a person'}: {_cut(turn.asked, _MESSAGE)}"


def _line(item: TurnItem) -> str | None:
    match item:
        case SaidItem(text=text) if text.strip():
            return f"The agent said: {_cut(text, _SAID)}"
        case ToolItem(title=str(title), status=status):
            return f"The agent did ({status or 'begun'}): {_cut(title, _ACTION)}"
        case NoticeItem(text=text):
            return f"Note: {_cut(text, _ACTION)}"
        case _:
            return None


def _cut(text: str, characters: int) -> str:
    text = text.strip()
    if len(text) <= characters:
        return text
    half = characters // 2
    return f"{text[:half]} [...] {text[-half:]}"
