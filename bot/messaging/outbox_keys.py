"""Keys of what is said, by which other modules find it in the outbox."""

from __future__ import annotations

from typing import Final

#: With this the outbox keys of answers to commands begin, and so those of the messages that open tasks' threads.
ANSWER: Final = "c/"


def answer_key(run_id: str) -> str:
    """Return the outbox key of the answer to a command."""
    return f"{ANSWER}{run_id}"


def end_key(thread_key: str) -> str:
    """Return the outbox key of what the message that opened a task's thread says last."""
    return f"{thread_key}/over"


#: With this the outbox keys of the messages begin that open agents' threads.
OPENER = "th/"
