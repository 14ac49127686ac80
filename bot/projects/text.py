"""What people read about topics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from bot.commands.syntax import command_line
from bot.text import markdown
from database.queries.chat.topics import Topic

#: Characters of the words that a thread is called by.
TITLE: Final = 60
WAITS: Final = "⏳"
#: How `Topic.detail` begins for a topic that ended long ago and cannot be forgotten.
KEPT: Final = "kept: "
_OUTCOMES: Final = {"merge": "merged", "keep": "branch kept", "discard": "discarded"}


def title(text: str, redact: Callable[[str], str], *, files: int = 0) -> str:
    """Return what a topic is called: the beginning of what was asked."""
    return markdown.gist(text, redact, TITLE) or (f"{files} files" if files > 1 else "a file")


def opened(topic: Topic, place: int | None) -> str:
    """Return the message that opens a topic's thread.

    Args:
        topic: the topic.
        place: how many topics are before it; None if it begins now.
    """
    what = f"🧵 **{topic.agent}** · {topic.project}: {topic.title}"
    if place is None:
        return f"{what}\n\nIt works on this in the thread; write there to go on."
    return f"{what}\n\n{in_line(place)}"


def in_line(place: int) -> str:
    """Return the sentence about a topic that waits for others."""
    before = "It is next." if not place else "1 topic is before it." if place == 1 else f"{place} topics are before it."
    return f"{WAITS} It waits, because as many topics run as may run at a time. {before}"


def still_waits(topic: Topic) -> str:
    """Return the answer to more words for a topic that has not begun."""
    why = topic.detail or "as many topics run as may run at a time"
    close = command_line(f"topic close {topic.agent}")
    return f"{WAITS} {topic.agent} reads this when it begins. It waits: {why.rstrip('.')}. {close} takes it back."


def not_begun(topic: Topic, why: str) -> str:
    """Return the report about a topic whose agent cannot be started now."""
    close = command_line(f"topic close {topic.agent}")
    return f"⚠️ {topic.agent} has not begun: {why.rstrip('.')}. It is tried again every minute; {close} ends it."


def went_idle(topic: Topic, seconds: float) -> str:
    """Return the note about an agent that was frozen because nobody wrote."""
    return (
        f"💤 Idle for {markdown.span(seconds)}, so {topic.agent} is frozen. Write here to wake it in its conversation."
    )


def over(topic: Topic) -> str:
    """Return the answer to words in the thread of a topic that ended."""
    how = _OUTCOMES.get(topic.outcome or "", "closed")
    return (
        f"This topic is over ({how}), so your message was not delivered. Write in the room outside of this thread to "
        "open another."
    )


def ended_title(topic: Topic, outcome: str) -> str:
    """Return what the topic is called after its end."""
    return f"{topic.title} ({_OUTCOMES.get(outcome, outcome)})"


def outcome_words(outcome: str | None) -> str:
    """Return how a topic ended, for a table."""
    return _OUTCOMES.get(outcome or "", "")


def not_ended(topic: Topic, why: str) -> str:
    """Return the report about a topic whose end cannot be completed now."""
    return f"⚠️ {topic.agent} is not ended yet: {why.rstrip('.')}. It is tried again every minute."


def kept(why: str) -> str:
    """Return what `Topic.detail` says of a topic that ended long ago and cannot be forgotten."""
    return f"{KEPT}{why.rstrip('.')}"[:500]


def is_kept(topic: Topic) -> bool:
    """Return whether a topic ended long ago, and cannot be forgotten."""
    return topic.state == "ended" and (topic.detail or "").startswith(KEPT)


def kept_note(agents: Sequence[str]) -> str:
    """Return the note below the list of topics about those that cannot be forgotten."""
    some = markdown.some(list(agents))
    discard, again = command_line(f"kill {agents[0]} --discard"), command_line(f"restart {agents[0]}")
    return (
        f"📁 {some} ended long ago, but cannot be forgotten: {command_line('topics --all')} says why. "
        f"{again} brings the agent back to commit its work; {discard} gives the work up."
    )


def goes_on(topic: Topic, why: str) -> str:
    """Return the report about a decision that cannot be carried out, so that the topic goes on."""
    again = command_line(f"done {topic.agent}")
    # What tests said is a block of its own.
    between = "\n\n" if "\n" in why else " "
    return f"⚠️ {topic.agent} is not over: {why}{between}Write here to have it mended, then {again} asks again."
