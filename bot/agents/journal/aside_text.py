"""What a question on the side came to, for chat. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from bot.commands.syntax import command_line
from bot.text import markdown
from fleet.journal.events import AsideEnded

_QUESTION_WIDTH = 120


def answer(agent: str, question: str, ended: AsideEnded, redact: Callable[[str], str]) -> str:
    """Return the answer to a question on the side, or why there is none, as one message."""
    about = f": {markdown.code(markdown.gist(question, redact, _QUESTION_WIDTH))}" if question.strip() else ""
    again = command_line(f"btw {agent} TEXT")
    match ended.outcome:
        case "answered":
            head = f"💬 **{agent}, on the side**{about}"
        case "lost":
            head = f"✖ **The question on the side to {agent} is lost**{about}"
        case _:
            head = f"✖ **The question on the side to {agent} was not answered**{about}"
    notes = []
    if ended.outcome == "answered" and not ended.forked:
        notes.append("A new session answered from a summary of the conversation, since it could not be copied.")
    if ended.refused:
        notes.append(f"It may only read, and was refused: {_titles(ended.refused, redact)}.")
    if ended.changed:
        notes.append(f"⚠️ It did this without asking: {_titles(ended.changed, redact)}. Look at the workspace.")
    if ended.detail:
        notes.append(ended.detail)
    if ended.outcome != "answered":
        notes.append(f"The agent's own work is not affected. {again} asks again.")
    text = redact(markdown.shown(ended.text.strip()))
    return "\n\n".join(filter(None, (head, text, f"*{' '.join(notes)}*" if notes else "")))


def _titles(titles: Iterable[str], redact: Callable[[str], str]) -> str:
    return ", ".join(markdown.code(markdown.gist(each, redact, 100)) for each in titles)
