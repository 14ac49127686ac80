"""The meter of a response that is one JSON document."""

from __future__ import annotations

from typing import Any

from egress.ledger.model import OTHER_ERROR
from egress.usage import text_token_estimate, usage_number_checks
from egress.usage.meter_interface import UsageReading
from egress.usage.parser_base import UsageParser

LARGEST_BODY = 32 * 1024 * 1024
"""The largest body that is parsed; a larger one passes unread."""
_LOOKED_AT = 2**20


class BodyMeter:
    """A Meter (egress.usage.meter_interface) of a JSON body. The newest part is held back until the body has ended.

    `end` parses the body, up to LARGEST_BODY; a large body takes a while.
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
        """Return the document if surplus data follows its end and none of the surplus was sent; the surplus is dropped.

        Return None if there is no document, or some of the surplus was sent. Then everything counts as output, like
        unreadable content.
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
        # The usage is at the end of the body, or was not parsed. Nearly all that was sent is output, and the provider
        # billed all of it before its first byte. Otherwise reading all but the last part would be free.
        self._assume(self._copy, self._size - len(self._newest))

    def _assume(self, source: bytearray | None, size: int) -> None:
        """Count this many bytes as output. `source` has the first of them; the part too long to examine counts as dense
        text."""
        seen = b"" if source is None else source[: min(size, _LOOKED_AT)]
        self._dialect.weight_written = 0
        self._dialect.write_unread(seen)
        self._dialect.weight_written += (size - len(seen)) * text_token_estimate.PER_TOKEN // 2

    def release(self) -> bytes:
        self._released = True
        kept, self._newest, self._copy = self._newest, b"", None
        return kept
