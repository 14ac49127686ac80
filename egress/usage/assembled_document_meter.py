"""The meter of a stream whose client gets a document."""

from __future__ import annotations

from egress.usage.document_assembly import LARGEST_DOCUMENT, AssembledDocument, Assembler, NotAssembledError
from egress.usage.event_stream_meter import StreamMeter
from egress.usage.meter_interface import UsageReading
from egress.usage.sse_splitter import PieceKind, Splitter, fields


class AssembledMeter:
    """A Meter (egress.usage.meter_interface) that assembles a stream's output into a document.

    It sends nothing to the client until the end; then `document` replaces `release`.
    """

    def __init__(self, inner: StreamMeter, assembler: Assembler, *, largest: int = LARGEST_DOCUMENT) -> None:
        self._inner = inner
        self._assembler = assembler
        self._largest = largest
        self._splitter = Splitter(largest)
        self._size = 0
        self._failure: NotAssembledError | None = None

    @property
    def reading(self) -> UsageReading:
        return self._inner.reading

    def feed(self, content: bytes) -> bytes:
        self._assemble(self._inner.feed(content))
        return b""

    def end(self) -> None:
        self._inner.end()

    def break_off(self) -> None:
        self._inner.break_off()

    def release(self) -> bytes:
        """Return nothing: the client gets the `document`."""
        self._inner.release()
        return b""

    def document(self) -> AssembledDocument:
        """Return the document, instead of `release`.

        Raises:
            NotAssembledError: the stream cannot be assembled into a document.
        """
        self._assemble(self._inner.release())
        if rest := self._splitter.drain():
            self._event(rest)
        if self._failure is not None:
            raise self._failure
        return self._assembler.document()

    def _assemble(self, content: bytes) -> None:
        if not content or self._failure is not None:
            return
        self._size += len(content)
        if self._size > self._largest:
            self._failure = NotAssembledError(f"it is longer than {self._largest:,} bytes")
            return
        for kind, piece in self._splitter.feed(content):
            if kind is PieceKind.EVENT:
                self._event(piece)

    def _event(self, piece: bytes) -> None:
        try:
            self._assembler.event(*fields(piece))
        except NotAssembledError as error:
            self._failure = self._failure or error
