"""The common base of the parsers for the three response formats."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from enum import Enum
from typing import Any, ClassVar

from budget.tokens import Tokens
from egress.usage import text_token_estimate, usage_number_checks
from egress.usage.meter_interface import UsageReading

_NOTHING = Tokens()


class Fate(Enum):
    """What happens to an event on its way to the client."""

    PASS = "pass"  # noqa: S105
    HIDE = "hide"
    """The client does not get it."""
    KEEP = "keep"
    """Only the terminal event matters after it; both are sent together."""
    LAST = "last"
    """The terminal event."""


class UsageParser(ABC):
    """Parses the events of a response, or its single document, and sums up the usage. Never raises over them."""

    #: The paths of token counts in a usage object.
    PATHS: ClassVar[tuple[tuple[str, ...], ...]]
    #: The member with the output in a single-document response.
    OUTPUT: ClassVar[str]
    #: The weights of characters until the provider reports the tokens.
    DENSITY: ClassVar[bytes] = text_token_estimate.ANY

    def __init__(self) -> None:
        self.usage: dict[str, Any] = {}
        self.weight_written = 0
        """Of the output that has streamed (egress.usage.text_token_estimate)."""
        self.events_written = 0
        """So many times something of it came. No model writes less than a token at a time."""
        self.model: str | None = None
        self.response_id: str | None = None
        self.error: str | None = None
        self.garbled = False
        self.unsound = False
        """What was garbled is the usage."""
        self.final = False
        """The final usage was told."""
        self.ended = False
        self._tokens: Tokens | None = _NOTHING
        """What `usage` says, as far as it was summed up since it was told last."""

    @abstractmethod
    def event(self, name: bytes, body: bytes) -> Fate:
        """Parse one event of a stream."""

    @abstractmethod
    def may_be_last(self, head: bytes) -> bool:
        """Return whether an event with this start, too large to arrive in one piece, may be the terminal one."""

    @abstractmethod
    def document(self, found: dict[str, Any]) -> None:
        """Parse a response that is one JSON object."""

    @abstractmethod
    def tokens(self) -> Tokens:
        """Return the tokens in `usage`, in disjoint kinds."""

    def close(self) -> None:
        """Note the clean end of the stream: the response is complete if it reported its final usage."""
        self.ended = self.ended or self.final

    def lost(self) -> None:
        """Note that an important event could not be read."""
        self.garbled = self.unsound = True

    def merge(self, usage: object) -> bool:
        """Merge a usage object, and return whether there was one."""
        if usage is None:
            return False
        if not isinstance(usage, dict):
            self.lost()
            return False
        if self.odd(usage):
            self.lost()
        self.usage = usage_number_checks.merged(self.usage, usage)
        self._tokens = None
        return True

    def odd(self, usage: Mapping[str, Any]) -> bool:
        """Return whether it contains an impossible value."""
        return usage_number_checks.odd(usage, self.PATHS)

    def name(self, source: dict[str, Any]) -> None:
        """Take the model and the id of the response."""
        self.model = self.model or usage_number_checks.word(source.get("model"))
        self.response_id = self.response_id or usage_number_checks.word(source.get("id"))

    def write(self, text: object) -> None:
        """Count output that streamed."""
        if isinstance(text, str) and text:
            self.events_written += 1
            self.weight_written += text_token_estimate.weigh(self.DENSITY, text)

    def write_unread(self, content: bytes | bytearray) -> None:
        """Count unparsed content, which may have been output."""
        self.weight_written += text_token_estimate.weigh(self.DENSITY, content)

    def write_all(self, parts: object) -> None:
        """Count output that arrived at once, in any structure."""
        waiting = [parts]
        while waiting:
            part = waiting.pop()
            if isinstance(part, dict):
                waiting += part.values()
            elif isinstance(part, list):
                waiting += part
            elif isinstance(part, str):
                self.weight_written += text_token_estimate.weigh(self.DENSITY, part)

    def fail(self, error: object) -> Fate:
        """Note the error with which the response ends."""
        self.error = usage_number_checks.error_type(error)
        self.ended = True
        return Fate.LAST

    def reading(self) -> UsageReading:
        """Return everything that is known."""
        if self._tokens is None:
            self._tokens = self.tokens()
        return UsageReading(
            tokens=self._tokens,
            reported=self.final and not self.unsound,
            raw=self.usage or None,
            written=max(text_token_estimate.tokens(self.weight_written), self.events_written),
            model=self.model,
            response_id=self.response_id,
            ended=self.ended,
            error=self.error,
            garbled=self.garbled,
        )
