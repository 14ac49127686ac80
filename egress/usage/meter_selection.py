"""Selection of the meter for a response."""

from __future__ import annotations

from egress.provider_endpoints import Api
from egress.usage.anthropic_messages import Messages
from egress.usage.assembled_document_meter import AssembledMeter
from egress.usage.document_assembly import AssembledDocument, Assembler, assembler_of
from egress.usage.event_stream_meter import StreamMeter
from egress.usage.json_body_meter import BodyMeter
from egress.usage.meter_interface import Meter, UsageReading
from egress.usage.openai_completions import CompletionsParser
from egress.usage.openai_responses import ResponsesParser
from egress.usage.parser_base import UsageParser

_BOM = b"\xef\xbb\xbf"
_SPACE = b" \t\r\n"
_DOCUMENT = (b"{", b"[")
_STREAM = (b"data", b"event", b"id", b"retry", b":")
_LOOKED_AT = 64


def meter_of(api: Api, streaming: bool, status: int, hide_usage: bool, *, assemble: bool = False) -> ResponseMeter:
    """Return a meter for one response.

    Args:
        api: the format of the response.
        streaming: whether its Content-Type is text/event-stream.
        status: its HTTP status.
        hide_usage: whether to hide the usage chunk of a Chat Completions stream, because the client did not ask for it.
        assemble: whether the client asked for a document: a stream is then assembled into one.
    """
    dialect: UsageParser
    if api == "anthropic":
        dialect = Messages()
    elif api == "responses":
        dialect = ResponsesParser()
    else:
        dialect = CompletionsParser(hide_usage=hide_usage)
    return ResponseMeter(dialect, streaming, status, assembler_of(api) if assemble and status == 200 else None)


class ResponseMeter:
    """A Meter that checks the first bytes: some servers label a stream as a document, or an error as a stream."""

    def __init__(self, dialect: UsageParser, streaming: bool, status: int, assembler: Assembler | None) -> None:
        self._dialect = dialect
        self._streaming = streaming
        self._status = status
        self._assembler = assembler
        self._inner: Meter | None = None
        self._first = b""
        self._released = False

    @property
    def reading(self) -> UsageReading:
        return self._dialect.reading() if self._inner is None else self._inner.reading

    def feed(self, content: bytes) -> bytes:
        if self._inner is not None:
            return self._inner.feed(content)
        if self._released:
            return b""
        self._first += content
        is_stream = _is_stream(self._first, self._streaming)
        if is_stream is None:
            return b""
        content, self._first = self._first, b""
        self._inner = self._of(is_stream)
        return self._inner.feed(content)

    def end(self) -> None:
        if self._inner is None and not self._released:
            self._inner = self._of(self._streaming)
            self._first = self._inner.feed(self._first)
        if self._inner is not None:
            self._inner.end()

    def break_off(self) -> None:
        if self._inner is not None:
            self._inner.break_off()

    def release(self) -> bytes:
        self._released = True
        kept, self._first = self._first, b""
        return kept if self._inner is None else kept + self._inner.release()

    def document(self) -> AssembledDocument | None:
        """Return the document that replaces `release`, or None if the client gets the content itself.

        Raises:
            NotAssembledError: the stream cannot be assembled into a document.
        """
        inner = self._inner
        return inner.document() if isinstance(inner, AssembledMeter) else None

    def _of(self, is_stream: bool) -> Meter:
        if not is_stream:
            return BodyMeter(self._dialect, self._status)
        stream = StreamMeter(self._dialect)
        return stream if self._assembler is None else AssembledMeter(stream, self._assembler)


def _is_stream(first: bytes, label: bool) -> bool | None:
    """Return whether a response with this start is an event stream; None: more bytes are needed."""
    seen = first[:_LOOKED_AT]
    start = seen.removeprefix(_BOM).lstrip(_SPACE)
    if start.startswith(_DOCUMENT):
        return False
    if start.startswith(_STREAM):
        return True
    undecided = not start or any(word.startswith(start) for word in _STREAM) or _BOM.startswith(seen)
    return None if undecided and len(seen) < _LOOKED_AT else label
