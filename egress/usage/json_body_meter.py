"""The meter of a response that is one JSON document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from egress.ledger.model import OTHER_ERROR
from egress.usage import text_token_estimate, usage_number_checks

if TYPE_CHECKING:
    from egress.usage.meter_interface import UsageReading
    from egress.usage.parser_base import UsageParser

LARGEST_BODY = 32 * 1024 * 1024
"""What is larger goes on, unread."""
_LOOKED_AT = 2**20


class BodyMeter:
    """A Meter (egress.usage.meter_interface) of a JSON body. The newest part is kept back until the body has ended.

    `end` parses what came, up to LARGEST_BODY: a large one takes its time.
    """

    def __init__(self, dialect: UsageParser, status: int = 200, *, largest: int = LARGEST_BODY) -> None:
        self._dialect = dialect
        self._status = status
        self._largest = largest
        self._copy: bytearray | None = bytearray()
        self._newest = b""
        self._size = 0
        self._released = False
        self._reading: UsageReading | None = None

    @property
    def reading(self) -> UsageReading:
        if self._reading is None:
            self._reading = self._dialect.reading()
        return self._reading

    def feed(self, content: bytes) -> bytes:
        if self._released or not content:
            return b""
        self._size += len(content)
        if self._copy is not None:
            if len(self._copy) + len(content) > self._largest:
                self._copy = None
            else:
                self._copy += content
        before, self._newest = self._newest, content
        return before

    def end(self) -> None:
        if self._released or self._dialect.ended:
            return
        self._reading = None
        source, self._copy = self._copy, None
        found = None
        if source is not None:
            try:
                found = usage_number_checks.loads(source)
            except ValueError:
                found = self._before_surplus(source)
        if isinstance(found, dict):
            self._dialect.document(found)
            if not self._dialect.final:
                self._dialect.write_all(found.get(self._dialect.OUTPUT))
        elif self._status < 400:
            self._dialect.lost()
            self._assume(source, self._size)
        if self._status >= 400 and self._dialect.error is None:
            self._dialect.error = OTHER_ERROR
        self._dialect.ended = True

    def _before_surplus(self, source: bytearray) -> Any:
        """Return the document, where more came behind its end, and none of that went on: it is dropped. None: there is
        none.

        Where some of it went on, all of it counts as output, as what cannot be read does.
        """
        try:
            found, end = usage_number_checks.first(source)
        except ValueError:
            return None
        passed = self._size - len(self._newest)
        if not isinstance(found, dict) or end < passed:
            return None
        self._newest = self._newest[: end - passed]
        return found

    def break_off(self) -> None:
        if self._released or self._dialect.ended or self._status >= 400:
            return
        self._reading = None
        # Its usage is at its end, or was not read yet; and nearly all that went on is output, which was billed as
        # a whole before the first byte of it came. (Reading all but the last part would otherwise be free.)
        self._assume(self._copy, self._size - len(self._newest))

    def _assume(self, source: bytearray | None, size: int) -> None:
        """So many bytes were output, of which `source` has the first; what is too much to look at is taken as dense."""
        seen = b"" if source is None else source[: min(size, _LOOKED_AT)]
        self._dialect.weight_written = 0
        self._dialect.write_unread(seen)
        self._dialect.weight_written += (size - len(seen)) * text_token_estimate.PER_TOKEN // 2

    def release(self) -> bytes:
        self._released = True
        kept, self._newest, self._copy = self._newest, b"", None
        return kept
