"""The times (in seconds) and bounds that delivery keeps to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliverySettings:
    """Defaults suit a chat of people; tests shorten them."""

    give_up_after: float = 24 * 3600.0
    """What could not be said for so long becomes a dead letter."""
    send_timeout: float = 60.0
    upload_timeout: float = 600.0
    sends_at_once: int = 8
    """Messages under way at the same time through one connector."""
    uploads_at_once: int = 3
    """How many of those may be files: uploads that hang are not to keep words waiting."""
    retry_first: float = 1.0
    """Pause after a failed send; twice as long after each further one of the same lane."""
    retry_longest: float = 60.0
    restart_first: float = 5.0
    """Pause before a connector that failed is started again; twice as long after each further failure."""
    restart_longest: float = 320.0
    conversations_at_once: int = 32
    """Conversations whose events are being handled at the same time."""
    handler_tries: int = 5
    """How often an event is handed out before it is marked as failed."""
    handler_pause: float = 0.5
    """Pause before an event is handed out again; twice as long after each further failure."""
    rescan_every: float = 30.0
    """How often the register is searched for what no wake-up announced."""
    stop_timeout: float = 5.0
    """How long a connector may take to release its connections."""
