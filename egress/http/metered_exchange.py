"""One admitted request: sent, metered while it streams, and settled exactly once.

It ends in one of five ways (egress.ledger.model.Ended). In every case the upstream connection is released before the
settlement, and the end of a response is sent only after it. An incomplete response never looks complete.

A stream ends with its client. A document does not: its provider bills all of it even if the client leaves, and reports
the bill at its end. So the egress reads it to its end after its client has left, for LEFT_S at most.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Final

import structlog

from egress.http import error_responses, header_filter, response_writer
from egress.http.response_writer import ResponseWriter
from egress.http.unmetered_costs import RequestNotAllowed
from egress.ledger.model import (
    BROKEN_OFF,
    EGRESS_ERROR,
    TOO_LITTLE_LEFT,
    UNREACHABLE,
    UNREADABLE,
    Ended,
    LedgerUnwritable,
    Observation,
)
from egress.limits.admission_interface import AdmittedRequest, Cut, Ending
from egress.limits.request_charge import has_input
from egress.provider_endpoints import Api, Provider
from egress.request import content_encoding
from egress.upstream import rate_limit_headers
from egress.upstream.response_reader import Response, UpstreamGone
from egress.usage import NotAssembledError, ResponseMeter, UsageReading, meter_of

_log = structlog.get_logger("egress.http.metered_exchange")

#: A JSON body longer than this is parsed in a thread.
_LONG_DOCUMENT: Final = 2**20
#: The egress closes the connection if a provider sends more than this after the end of its response.
_MOST_SURPLUS: Final = 2**16
#: How long a document is read after its client has left, in seconds.
LEFT_S = 600.0
_NOTHING: Final = UsageReading()
#: Headers of an error whose retry would be billed again.
_FINAL: Final = (*response_writer.JSON, (b"x-should-retry", b"false"))


class MeteredExchange:
    """One request's exchange with a provider. Runs once, in the task that serves the request."""

    def __init__(
        self,
        *,
        lease: AdmittedRequest,
        answer: ResponseWriter,
        account: str,
        provider: Provider,
        api: Api,
        document: bool,
        assemble: bool,
        hide_usage: bool,
        sent: Callable[[], bool],
        began: float,
        hold: Callable[[Coroutine[None, None, None]], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """
        Args:
            document: whether the client asked for a document, not a stream.
            assemble: whether the provider is asked for a stream anyway, from which a document is assembled for the
                client.
            hide_usage: whether the client did not ask for the usage of a Chat Completions stream.
            sent: returns whether part of the request may have left.
            began: the time of its admission (monotonic), from which the ledger also counts.
            hold: runs a coroutine that must finish even if this task does not.
            clock: seconds since the epoch.
        """
        self._lease = lease
        self._answer = answer
        self._account = account
        self._provider: Provider = provider
        self._api: Api = api
        self._document = document
        self._assemble = assemble
        self._hide_usage = hide_usage
        self._sent = sent
        self._began = began
        self._hold = hold
        self._clock = clock
        self._task: asyncio.Task[object] | None = None
        self._response: Response | None = None
        self._meter: ResponseMeter | None = None
        self._streaming = False
        self._first_byte_s: float | None = None
        self._observations: tuple[Observation, ...] = ()
        self._cut: Cut | None = None
        self._counting = False
        self._settling = False
        self._over = False
        self._left = False
        self._given_up = False
        self._expiry: asyncio.TimerHandle | None = None
        self._next_step = 0
        """From so many tokens of output on, what the stream has told is kept again."""
        self._surplus = 0
        """Bytes that came behind the end of the response."""

    async def run(self, sending: Callable[[], Awaitable[Response]]) -> int | None:
        """Perform the exchange, and return the provider's status, or None if there was none.

        Raises:
            asyncio.CancelledError: the client is gone, and everything is settled or about to be.
        """
        self._task = asyncio.current_task()
        try:
            self._counting = True
            self._lease.on_cut(self.cut)
            self._counting = False
            if self._cut is None:
                if self._left:
                    self._conclude("client_gone")
                else:
                    await self._exchange(sending)
        except asyncio.CancelledError:
            if self._cut is None:
                if not self._given_up:
                    self._conclude("client_gone")
                elif self._response is not None:
                    self._response.abort()
                raise
        except ConnectionError:
            # A write failed before the disconnect was noticed.
            self._conclude("client_gone")
        except LedgerUnwritable as unwritable:
            # The end of the response must not be sent.
            self._conclude("error")
            _log.error("ledger unwritable", lease=self._lease.id, error=str(unwritable))
        except Exception:
            _log.exception("passage failed", lease=self._lease.id)
            self._conclude("error", EGRESS_ERROR)
        finally:
            if self._cut is not None:
                self._conclude("cut")
            if self._expiry is not None:
                self._expiry.cancel()
            self._over = True
            self._task = None
        return self._response.status if self._response is not None else None

    @property
    def left(self) -> bool:
        """Whether its client is gone, and the response is read to its end anyway."""
        return self._left

    def leave(self) -> None:
        """Note that the client of a document is gone. A request that has not been sent is canceled."""
        if self._left or self._over:
            return
        self._left = True
        self._answer.desert()
        if self._task is None:
            return
        if self._sent():
            self._expiry = asyncio.get_running_loop().call_later(LEFT_S, self._task.cancel)
        else:
            self._task.cancel()

    def give_up(self) -> None:
        """End now without a settlement: the next egress charges the reservation when it opens the ledger."""
        if self._task is not None and not self._settling:
            self._given_up = True
            self._task.cancel()

    def cut(self, cut: Cut, *, status: int = 403) -> None:
        """End the exchange now: the upstream first, then the client.

        Never waits; may be called from anywhere in the loop.

        Args:
            cut: the reason.
            status: the kind of error for the client: 403 is final, 503 allows a retry.
        """
        if self._cut is not None or self._task is None:
            return
        self._cut = cut
        if self._response is not None:
            self._response.abort()
        if self._answer.begun:
            self._answer.cut(error_responses.event(self._api, cut.reason, status=status) if self._streaming else b"")
        else:
            sent = error_responses.status_of(self._api, status)
            self._answer.last_word(sent, error_responses.body(self._api, status, cut.reason))
        if not self._counting and not self._settling:
            self._task.cancel()

    async def _exchange(self, sending: Callable[[], Awaitable[Response]]) -> None:
        try:
            response = self._response = await sending()
        except UpstreamGone as gone:
            await self._settle(Ending(ended="upstream_gone", sent=gone.sent, lost=self._left, detail=_type_of(gone)))
            self._refuse(502, str(gone))
            return
        except RequestNotAllowed as bad:
            # The rest of the limits is too small for such a request.
            await self._settle(Ending(ended="error", sent=False, detail=TOO_LITTLE_LEFT))
            self._refuse(bad.status, str(bad))
            return
        self._observations = rate_limit_headers.observe(self._provider, self._account, response.headers, self._clock())
        # A response without content is not a stream, and its head is held back like a document's.
        streams = response.status not in {204, 304} and response.headers.get("content-type", "").lower().startswith(
            "text/event-stream"
        )
        self._streaming = streams and not self._assemble
        self._meter = meter_of(self._api, streams, response.status, self._hide_usage, assemble=self._assemble)
        try:
            await self._carry(response, self._meter)
        except (UpstreamGone, content_encoding.BadEncoding) as broken:
            response.abort()
            if not self._settling:
                await self._settle(self._ending("upstream_gone", _type_of(broken)))
            self._refuse(502, str(broken))

    def _refuse(self, status: int, message: str) -> None:
        if self._cut is None:
            self._answer.refuse(status, response_writer.JSON, error_responses.body(self._api, status, message))

    async def _carry(self, response: Response, meter: ResponseMeter) -> None:
        decoder = content_encoding.decoder(response.headers.get("content-encoding"))
        if self._streaming:
            self._begin(response, None)
        size = 0
        while chunk := response.read_nowait() or await response.readany():
            if self._first_byte_s is None:
                self._first_byte_s = time.monotonic() - self._began
            size += len(chunk)
            for piece in decoder.feed(chunk):
                await self._pass(response, meter, piece)
                if self._cut is not None:
                    return
            if self._surplus > _MOST_SURPLUS:
                response.abort()
                break
        for piece in decoder.end() if self._surplus <= _MOST_SURPLUS else ():
            await self._pass(response, meter, piece)
            if self._cut is not None:
                return
        if self._settling:
            self._answer.end()
            return
        if size > _LONG_DOCUMENT and not self._streaming:
            await asyncio.to_thread(meter.end)
        else:
            meter.end()
        await self._finish(response, meter)

    async def _pass(self, response: Response, meter: ResponseMeter, piece: bytes) -> None:
        """Meter the next part of the content, and send on what is allowed."""
        answer = self._answer
        out = meter.feed(piece)
        if self._settling:
            # The response has ended: further bytes are not part of it, and are dropped.
            self._surplus += len(piece) - len(out)
        reading = meter.reading
        # Bytes that arrive together are counted together before they are sent: a crossing sends none of them.
        if not self._settling:
            self._count(reading)
            if self._cut is not None:
                return
        if out:
            await self._let_on(response, out)
        if reading.ended and not self._settling:
            await self._settle(self._ending(_how(response.status, reading)))
            if self._cut is not None:
                return
            if not self._give_document(response, meter):
                answer.write(meter.release())

    async def _let_on(self, response: Response, content: bytes) -> None:
        """Send the client a part of the content, and wait until it has read enough for the next."""
        answer = self._answer
        try:
            if not answer.begun:
                self._begin(response, None)
            answer.write(content)
            await answer.drained()
        except ConnectionError:
            if not self._document:
                raise
            self.leave()

    async def _finish(self, response: Response, meter: ResponseMeter) -> None:
        """Settle a response that ended cleanly, and send its end, which is still held back."""
        reading = meter.reading
        if not reading.ended:
            raise UpstreamGone("the provider's response ended before it was complete.", sent=True)
        await self._settle(self._ending(_how(response.status, reading)))
        if self._cut is not None:
            return
        if self._give_document(response, meter):
            self._answer.end()
            return
        last = meter.release()
        if self._answer.begun:
            self._answer.end(last)
        else:
            # The whole response is here, so its length is known, whatever the provider announced.
            self._begin(response, len(last), last)
            self._answer.end()

    def _give_document(self, response: Response, meter: ResponseMeter) -> bool:
        """Send the client the document assembled from a stream, and return whether there is one."""
        try:
            document = meter.document()
        except NotAssembledError as error:
            # A retry would be billed again.
            message = f"the provider's stream could not be made into the document that was asked for: {error}."
            self._answer.refuse(502, _FINAL, error_responses.body(self._api, 502, message))
            return True
        if document is None:
            return False
        content = document.source()
        passing = _beside_document(response)
        self._answer.begin(document.status, passing, length=len(content), with_=content)
        return True

    def _begin(self, response: Response, length: int | None, first: bytes = b"") -> None:
        passing = header_filter.returning(response.raw_headers, decoded=True)
        self._answer.begin(response.status, passing, length=length, with_=first)

    def _count(self, reading: UsageReading) -> None:
        self._counting = True
        so_far = reading.so_far
        try:
            self._lease.progress(so_far)
        finally:
            self._counting = False
        if self._cut is not None or reading.ended:
            return
        if so_far.output + so_far.reasoning >= self._next_step and has_input(so_far):
            self._next_step = self._lease.told(so_far)

    def _ending(self, ended: Ended, detail: str | None = None) -> Ending:
        if self._meter is not None and ended != "completed":
            self._meter.break_off()
        reading = self._meter.reading if self._meter is not None else _NOTHING
        status = self._response.status if self._response is not None else None
        return Ending(
            ended=ended,
            status=status,
            tokens=reading.so_far,
            reported=reading.reported,
            # A redirection is not an answer of a model.
            sent=self._sent() if status is None else not 300 <= status < 400,
            lost=self._left and ended in ("upstream_gone", "client_gone"),
            model=reading.model,
            raw=reading.raw,
            detail=detail or reading.error or (UNREADABLE if reading.garbled else None),
            first_byte_s=self._first_byte_s,
            observations=self._observations,
            response_id=reading.response_id,
        )

    async def _settle(self, ending: Ending) -> None:
        """Settle durably. Once started, the settlement continues even if this task ends."""
        self._settling = True
        await self._lease.settle(ending)

    def _conclude(self, ended: Ended, detail: str | None = None) -> None:
        """Release both connections, and settle if that has not started."""
        if self._response is not None:
            self._response.abort()
        self._answer.leave()
        if not self._settling:
            self._settling = True
            self._hold(self._settle_alone(self._ending(ended, detail)))

    async def _settle_alone(self, ending: Ending) -> None:
        try:
            await self._lease.settle(ending)
        except LedgerUnwritable as unwritable:
            _log.error("ledger unwritable", lease=self._lease.id, error=str(unwritable))


def _type_of(error: UpstreamGone | content_encoding.BadEncoding) -> str:
    if isinstance(error, UpstreamGone):
        return BROKEN_OFF if error.sent else UNREACHABLE
    return UNREADABLE


def _beside_document(response: Response) -> list[tuple[bytes, bytes]]:
    """Return the headers of a document that was assembled from a stream."""
    passing = header_filter.returning(response.raw_headers, decoded=True)
    return [*response_writer.JSON, *(each for each in passing if each[0].lower() != b"content-type")]


def _how(status: int, reading: UsageReading) -> Ended:
    return "completed" if 200 <= status < 300 and reading.error is None else "error"
