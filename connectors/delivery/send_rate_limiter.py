"""How much a bot user may say: one budget of sends per connection, learned from the server's own refusals.

A token bucket whose rate is what the connector declares, or unknown. When the server says "too many requests", nothing
is sent for as long as it asked, and the assumed rate sinks; it rises again slowly. Part of the bucket is kept back from
the less urgent, so that an approval or a reply goes out at once even while an agent's progress is being shown.
"""

from __future__ import annotations

from connectors.contract.messages import Priority

#: The part of the burst that must be left over for the more urgent. An empty bucket refills all the same, so the least
#: urgent still go out at the full rate when nothing else waits.
_RESERVED = {
    Priority.APPROVAL: 0.0,
    Priority.REPLY: 0.0,
    Priority.FINAL: 0.1,
    Priority.RECEIPT: 0.3,
    Priority.PROGRESS: 0.5,
}

_SLOWEST = 0.05  # sends a second; a guess never falls below it
_UNLIMITED = 20.0  # above this a learned rate is forgotten again
_SINK = 0.8
_RISE = 1.25
_RISE_EVERY = 60.0  # seconds without a refusal
_LONGEST_PAUSE = 600.0  # seconds; a server that asks for more is asked again


class SendRateLimiter:
    """The budget of one bot user. All times are seconds since the epoch, handed in."""

    def __init__(self, rate: float | None, burst: int, now: float) -> None:
        self.rate = rate
        """Sends a second that are assumed to be allowed; None while no limit is known."""
        self.burst = max(1, burst)
        self.paused_until = 0.0
        self._declared = rate
        self._tokens = float(self.burst)
        self._counted_at = now
        self._changed_at = now
        self._refusals = 0

    def allows(self, priority: Priority, now: float) -> bool:
        """Return whether something of this urgency may be sent now."""
        return self.next_at(priority, now) <= now

    def next_at(self, priority: Priority, now: float) -> float:
        """Return when something of this urgency may be sent if nothing else is."""
        self._count(now)
        if self.rate is None:
            return max(now, self.paused_until)
        missing = self._threshold(priority) - self._tokens
        # A shade more than nothing is rounding: waiting for it would wake us a moment too early, again and again.
        refilled = now if missing <= 1e-6 else now + missing / self.rate
        return max(refilled, self.paused_until)

    def scarce(self, now: float) -> bool:
        """Return whether so little is left that what can be left out should be."""
        self._count(now)
        return now < self.paused_until or (
            self.rate is not None and self._tokens < self._threshold(Priority.PROGRESS) - 1e-6
        )

    def spend(self, now: float) -> None:
        """One is being sent."""
        self._count(now)
        if self.rate is not None:
            self._tokens -= 1.0

    def taken(self, now: float) -> None:
        """The server took one."""
        self._refusals = 0
        if self.rate is None or now - self._changed_at < _RISE_EVERY:
            return
        self._count(now)
        self._changed_at = now
        self.rate *= _RISE
        if self._declared is not None:
            self.rate = min(self.rate, self._declared)
        elif self.rate > _UNLIMITED:
            self.rate = None

    def refused(self, now: float, after: float | None) -> None:
        """The server said "too many requests", and, where `after` is given, for how many seconds."""
        self._count(now)
        self._refusals += 1
        pause = 2.0 ** min(self._refusals, 6) if after is None else min(max(after, 0.05), _LONGEST_PAUSE)
        first_of_several = now >= self.paused_until  # what was under way together is refused together
        self.paused_until = max(self.paused_until, now + pause)
        if first_of_several:
            guess = 1.0 / pause  # a server that lets one through after so long lets no more than these through
            self.rate = max(_SLOWEST, guess if self.rate is None else min(self.rate * _SINK, max(guess, self.rate / 2)))
            self._changed_at = now
        # When the pause is over there is room for one.
        self._tokens = min(self._tokens, 1.0 - (self.rate or 0.0) * (self.paused_until - now))

    def _threshold(self, priority: Priority) -> float:
        return 1.0 + _RESERVED[priority] * (self.burst - 1)

    def _count(self, now: float) -> None:
        if now > self._counted_at:
            grown = 0.0 if self.rate is None else self.rate * (now - self._counted_at)
            self._tokens = min(float(self.burst), self._tokens + grown)
        elif now < self._counted_at:  # the clock was set back
            self.paused_until = min(self.paused_until, now + _LONGEST_PAUSE)
        self._counted_at = now
