"""The interface of meters, and their readings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from budget.tokens import Tokens


# Not frozen, since that triples the cost of creating one for each event.
@dataclass(kw_only=True, slots=True)
class UsageReading:
    """What is known of a response so far."""

    tokens: Tokens = field(default_factory=Tokens)
    """What the provider has reported so far; zeros if nothing yet."""
    reported: bool = False
    """Whether the provider has reported the final usage, and all of it was readable: `tokens` is what it bills. Only
    this says whether there is a bill: a response can have one before it ends, and fail afterwards."""
    raw: Mapping[str, Any] | None = None
    """The provider's own usage objects, merged, for the ledger."""
    written: int = 0
    """An estimate of the tokens of all output that has streamed so far (egress.usage.text_token_estimate)."""
    model: str | None = None
    """The model that answered, as the provider names it."""
    response_id: str | None = None
    ended: bool = False
    """Whether the terminal event, or a whole JSON body, has arrived: nothing more will come. With `error`, it
    failed."""
    error: str | None = None
    """The type of the error (egress.ledger.model.ERROR_TYPES) if the response reports a failure, even after a 200."""
    garbled: bool = False
    """Whether something was unreadable, possibly nothing important. The bytes are sent anyway."""

    @property
    def so_far(self) -> Tokens:
        """What counts against limits while the response streams."""
        told = self.tokens
        if self.reported or self.written <= told.output + told.reasoning:
            return told
        # Runs for each event: creates one object instead of adding two.
        return Tokens(
            input=told.input,
            output=self.written - told.reasoning,
            cache_read=told.cache_read,
            cache_write=told.cache_write,
            reasoning=told.reasoning,
        )


class Meter(Protocol):
    """Reads one response. Never raises over its content, and uses a bounded amount of memory."""

    @property
    def reading(self) -> UsageReading:
        """What is known now."""
        ...

    def feed(self, content: bytes) -> bytes:
        """Take the next part of the content, and return what may be sent to the client now.

        From the terminal event on it returns nothing: the rest is held back for `release`.
        """
        ...

    def end(self) -> None:
        """Note the clean end of the response; `reading` is final, and `release` returns the rest."""
        ...

    def break_off(self) -> None:
        """Note that the response will not be read to its end; `reading` then counts what was sent."""
        ...

    def release(self) -> bytes:
        """Return the held-back bytes, once. Later, `feed` returns only the rest of the terminal event; anything after
        that is dropped."""
        ...
