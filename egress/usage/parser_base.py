"""What the three ways of writing a response have in common when they are read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar

from budget.tokens import Tokens
from egress.usage import text_token_estimate, usage_number_checks
from egress.usage.meter_interface import UsageReading

if TYPE_CHECKING:
    from collections.abc import Mapping

_NOTHING = Tokens()


class Fate(Enum):
    """What happens to an event on its way to the client."""

    PASS = "pass"  # noqa: S105
    HIDE = "hide"
    """It is not the client's."""
    KEEP = "keep"
    """Nothing of use comes after it but the terminal event; they go together."""
    LAST = "last"
    """The terminal event."""


class UsageParser(ABC):
    """Reads the events, or the one document, of a response, and sums up what they say. Never raises over them."""

    #: Where in a usage object numbers of tokens stand.
    PATHS: ClassVar[tuple[tuple[str, ...], ...]]
    #: Where a response that is one document has its output.
    OUTPUT: ClassVar[str]
    #: What characters count while no one has told the tokens.
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
        """Read one event of a stream."""

    @abstractmethod
    def may_be_last(self, head: bytes) -> bool:
        """Return whether an event that begins so, too large to come in one piece, may be the terminal one."""

    @abstractmethod
    def document(self, found: dict[str, Any]) -> None:
        """Read a response that is one JSON object."""

    @abstractmethod
    def tokens(self) -> Tokens:
        """Return what `usage` says, in disjoint kinds."""

    def close(self) -> None:
        """The stream is over, in good order: it was the whole response, if it says so."""
        self.ended = self.ended or self.final

    def lost(self) -> None:
        """An event that matters could not be read."""
        self.garbled = self.unsound = True

    def merge(self, usage: object) -> bool:
        """Take in a usage object; whether there was one."""
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
        """Return whether something is in it that cannot be."""
        return usage_number_checks.odd(usage, self.PATHS)

    def name(self, source: dict[str, Any]) -> None:
        """Who answered."""
        self.model = self.model or usage_number_checks.word(source.get("model"))
        self.response_id = self.response_id or usage_number_checks.word(source.get("id"))

    def write(self, text: object) -> None:
        """Output that streamed."""
        if isinstance(text, str) and text:
            self.events_written += 1
            self.weight_written += text_token_estimate.weigh(self.DENSITY, text)

    def write_unread(self, content: bytes | bytearray) -> None:
        """What is not read, and may have been output."""
        self.weight_written += text_token_estimate.weigh(self.DENSITY, content)

    def write_all(self, parts: object) -> None:
        """Output that came at once, in whatever structure."""
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
        """The response says that it failed, and ends with that."""
        self.error = usage_number_checks.error_type(error)
        self.ended = True
        return Fate.LAST

    def reading(self) -> UsageReading:
        """Return all that is known."""
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
