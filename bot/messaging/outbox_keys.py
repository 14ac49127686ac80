"""Outbox keys by which other modules find messages, and the ids that come from chat events."""

from __future__ import annotations

import hashlib
from typing import Final


def event_digest(connector: str, event_id: str) -> str:
    """Return the digest of a chat event; the ids of what it causes are a letter and this."""
    return hashlib.blake2s(f"{connector}\0{event_id}".encode(), digest_size=10).hexdigest()


#: Prefix of the outbox keys of answers to commands, and so of messages that open tasks' threads.
ANSWER: Final = "c/"


def answer_key(run_id: str) -> str:
    """Return the outbox key of the answer to a command."""
    return f"{ANSWER}{run_id}"


def end_key(thread_key: str) -> str:
    """Return the outbox key of the final text of the message that opened a task's thread."""
    return f"{thread_key}/over"


#: Prefix of the outbox keys of messages that open agents' threads.
OPENER = "th/"
