"""What a meter knows of a response, and what a meter is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from budget.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import Mapping


# Not frozen, since that triples the cost of creating one for each event.
@dataclass(kw_only=True, slots=True)
class UsageReading:
    """What is known of a response so far."""

    tokens: Tokens = field(default_factory=Tokens)
    """What the provider itself reported so far; nothing yet: zeros."""
    reported: bool = False
    """The provider has told the final usage, and nothing of it was garbled: `tokens` is what it bills. This alone says
    whether there is a bill: a response can have one before it has ended, and fail after it."""
    raw: Mapping[str, Any] | None = None
    """The provider's own usage objects, merged, as they go into the ledger."""
    written: int = 0
    """An estimate of the tokens of all output that has streamed so far (egress.usage.text_token_estimate)."""
    model: str | None = None
    """The model that answered, as the provider names it."""
    response_id: str | None = None
    ended: bool = False
    """The terminal event, or the whole of a JSON body, is here: nothing more is to come. With `error`, it failed."""
    error: str | None = None
    """The type of the error (egress.ledger.model.ERROR_TYPES), when the response says that it failed (also after a
    200)."""
    garbled: bool = False
    """Something could not be read, perhaps nothing that matters. The bytes go on all the same."""

    @property
    def so_far(self) -> Tokens:
        """What counts against limits while the response streams."""
        told = self.tokens
        if self.reported or self.written <= told.output + told.reasoning:
            return told
        # Once for each event: one object, and not two that are added.
        return Tokens(
            input=told.input,
            output=self.written - told.reasoning,
            cache_read=told.cache_read,
            cache_write=told.cache_write,
            reasoning=told.reasoning,
        )


class Meter(Protocol):
    """Reads one response. Never raises over its content, and holds a bounded amount of memory."""

    @property
    def reading(self) -> UsageReading:
        """What is known now."""
        ...

    def feed(self, content: bytes) -> bytes:
        """Take the next part of the content, and give what may go on to the client now.

        From the terminal event on nothing comes back: it is kept for `release`.
        """
        ...

    def end(self) -> None:
        """The upstream has ended the response in good order; `reading` is final, and what is left is in `release`."""
        ...

    def break_off(self) -> None:
        """The response will not come to its end here; `reading` then counts what went on of it."""
        ...

    def release(self) -> bytes:
        """Return what was kept back, once. After it `feed` gives back the end of the terminal event alone: what a
        provider sends behind that is dropped."""
        ...
