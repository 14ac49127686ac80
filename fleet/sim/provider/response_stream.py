"""One answer of the simulated provider on its way: its steps carried out, counted, and written to the client."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import random
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from aiohttp import web

from fleet.sim.provider import api_errors
from fleet.sim.provider.api_writer import ResponseEnvelope, Stop, call_tokens
from fleet.sim.provider.billing_ledger import LONGEST_TEXT, BilledRequest, State
from fleet.sim.provider.normalized_request import Api, NormalizedRequest
from fleet.sim.provider.prompt_directives import (
    CachedInput,
    Delay,
    Disconnect,
    Fail,
    Say,
    Slow,
    Step,
    Think,
    UseTool,
    WaitDirective,
)
from fleet.sim.provider.response_delivery import ResponseDelivery
from fleet.sim.provider.token_count import BilledTokens, TokenMeter


class Shared(Protocol):
    """What all answers of a provider have in common."""

    def bill_input(self, request: NormalizedRequest, account: str) -> BilledTokens: ...
    def pieces(self, request: NormalizedRequest, step: Say | Think) -> Iterable[str]: ...
    async def stand(self, wait: WaitDirective) -> None: ...


class ResponseStream:
    """One answer on its way."""

    def __init__(
        self,
        shared: Shared,
        http: web.Request,
        request: NormalizedRequest,
        entry: BilledRequest,
        envelope: ResponseEnvelope,
        headers: Mapping[str, str],
        delivery: ResponseDelivery,
    ) -> None:
        self._shared, self._http, self._request = shared, http, request
        self._entry, self._headers = entry, headers
        self._report = envelope.report
        self._writer = delivery.writer(request.api, envelope)
        dice = random.Random(f"{entry.number}:{request.digest}")  # noqa: S311
        self._outlet = delivery.body(http, request.api, dice)
        self._meter = TokenMeter(request.max_tokens)
        self._input: BilledTokens | None = None
        self._cached: CachedInput | None = None
        self._begun = False
        self._said: list[str] = []
        self._slow = 0.0
        self.state: State = "running"
        self._status = 200
        self._stop: Stop | None = None
        self._reported = False

    @property
    def usage(self) -> BilledTokens:
        """What is billed so far: nothing, when the model never began."""
        return self._billed(output=self._meter.output, reasoning=self._meter.reasoning)

    def entry(self, now: float) -> BilledRequest:
        """Its row, as it is at `now`."""
        return dataclasses.replace(
            self._entry,
            state=self.state,
            status=self._status,
            stop=self._stop,
            answer="".join(self._said)[:LONGEST_TEXT],
            usage=self.usage,
            reported=self._reported,
            sent=self._outlet.sent,
            digest=self._outlet.digest,
            visible_digest=self._outlet.visible_digest,
            ended_at=now,
        )

    async def give(self, steps: tuple[Step, ...]) -> web.StreamResponse:
        """Carry the steps out, and end."""
        stop: Stop = "end"
        for step in steps:
            if isinstance(step, CachedInput):
                self._cached = step
        for step in steps:
            match step:
                case Delay():
                    await asyncio.sleep(step.seconds)
                case Slow():
                    self._slow = step.seconds
                case WaitDirective():
                    await self._shared.stand(step)
                case Fail() if step.times is None or self._entry.attempt <= step.times:
                    return await self._fail(step)
                case Disconnect() if step.times is None or self._entry.attempt <= step.times:
                    return await self._break(step)
                case Say() | Think():
                    if not await self._speak(step):
                        stop = "length"
                        break
                case UseTool():
                    await self._begin()
                    if not self._meter.call(call_tokens(step)):
                        stop = "length"
                        break
                    await self._send(self._writer.call(step))
                    stop = "tool"
        return await self._finish(stop)

    def gone(self) -> web.StreamResponse:
        """The client has left; what is returned is not sent."""
        if self.state == "running":
            self.state = "client_gone"
        return self._outlet.response or web.Response()

    def _billed(self, *, output: int, reasoning: int = 0) -> BilledTokens:
        if self._input is None:
            return BilledTokens()
        usage = dataclasses.replace(self._input, output=output, reasoning=reasoning)
        return self._report.billed(self._request.api, usage)

    def _tells(self) -> bool:
        """Return whether a whole answer, as it is delivered, says what is billed."""
        return self._report.complete and (
            self._request.api != "chat" or not self._request.stream or self._request.include_usage
        )

    async def _speak(self, step: Say | Think) -> bool:
        """Say or think it, as far as the limit goes; False where it was cut."""
        await self._begin()
        kind = "text" if isinstance(step, Say) else "thought"
        for piece in self._shared.pieces(self._request, step):
            fitting = self._meter.words(kind, piece)
            if fitting and kind == "text":
                self._said.append(fitting)
                await self._send(self._writer.text(fitting))
            elif fitting:
                await self._send(self._writer.thought(fitting))
            if fitting != piece:
                return False
            if self._slow:
                await asyncio.sleep(self._slow)
        return True

    def _read(self) -> None:
        """The model reads the request: its input is billed from here on."""
        if self._input is not None:
            return
        billed = self._shared.bill_input(self._request, self._entry.account)
        if self._cached is not None:
            written = self._cached.written if self._request.api == "anthropic" else 0
            billed = BilledTokens(input=billed.whole_input, cache_read=self._cached.read, cache_write=written)
        self._input = billed

    async def _begin(self) -> None:
        if self._begun:
            return
        self._begun = True
        self._read()
        if self._request.stream:
            headers = {**self._headers, "Cache-Control": "no-cache"}
            await self._outlet.open(headers, "text/event-stream; charset=utf-8")
        # Anthropic's placeholder says 1 token of output before there is any.
        await self._send(self._writer.begin(self._billed(output=1)))

    async def _send(self, frames: Iterable[bytes]) -> None:
        # A writer learns by its frames what it will put into a document.
        written = list(frames)
        if self._request.stream:
            await self._outlet.send(written)

    async def _finish(self, stop: Stop) -> web.StreamResponse:
        await self._begin()
        self._stop = stop
        if not self._request.stream:
            response = await self._document(self._writer.document(stop, self.usage))
            self.state, self._reported = "completed", self._tells()
            return await self._end(response)
        await self._send(self._writer.end(stop, self.usage))
        await self._outlet.finish()
        # The last byte is out: clients such as Codex hang up before the end of the body.
        self.state, self._reported = "completed", self._tells()
        return await self._end(self._outlet.response)

    async def _end(self, response: web.StreamResponse | None) -> web.StreamResponse:
        if response is self._outlet.response and response is not None:
            await self._outlet.end()
        return response or web.Response()

    async def _document(self, source: Mapping[str, Any], *, status: int = 200) -> web.StreamResponse:
        body = json.dumps(source).encode("utf-8", "replace")
        return await self._outlet.document(self._headers, body, status=status)

    async def _fail(self, fail: Fail) -> web.StreamResponse:
        self._status = fail.status
        api = self._request.api
        if self._outlet.response is None:
            if fail.billed:
                self._read()
            else:
                self._input = None
            if fail.retry_after is not None:
                self._headers = {**self._headers, "retry-after": f"{fail.retry_after:g}"}
            source = api_errors.body(api, fail.status, fail.message, self._entry.id)
            if fail.billed:
                source = self._report.put(source, api, "document", self.usage)
            self.state, self._reported = "refused", fail.billed and self._report.complete
            return await self._end(await self._document(source, status=fail.status))
        told = self.usage if fail.billed and api == "responses" else None
        await self._send(self._writer.failure(fail.status, fail.message, told))
        await self._outlet.finish()
        self.state, self._reported = "failed", told is not None and self._tells()
        return await self._end(self._outlet.response)

    async def _break(self, order: Disconnect) -> web.StreamResponse:
        """End it before its end, in one of the ways in which that happens."""
        if self._request.stream:
            await self._begin()
        elif order.how != "reset":
            await self._begin()
            body = json.dumps(self._writer.document("end", self.usage)).encode("utf-8", "replace")
            await self._outlet.open(
                self._headers, "application/json", length=None if order.how == "unfinished" else 10 * len(body)
            )
            await self._outlet.write(body[: len(body) // 2])
        if order.how == "unfinished":
            await self._outlet.finish()
            self.state = "unfinished"
            return await self._end(self._outlet.response)
        self.state = "disconnected"
        if self._http.transport is not None:
            if order.how == "reset":
                self._http.transport.abort()
            else:
                self._http.transport.close()
        return self.gone()


def refusal(api: Api, status: int, message: str, request_id: str) -> web.Response:
    """Return an answer to what is no request."""
    named = {"request-id": request_id}
    return web.json_response(api_errors.body(api, status, message, request_id), status=status, headers=named)
