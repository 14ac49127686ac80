"""A model provider on this machine: Anthropic Messages, OpenAI Responses and Chat Completions, with scripted faults.

`python -m fleet.sim.provider` prints its address on the first line. Beside the APIs it has:

    GET  /sim/ledger             every request and what it billed (fleet.sim.provider.billing_ledger.BilledRequest);
                                 `after=NUMBER`, `contains=TEXT` and `state=STATE` narrow the list, and
                                 `at_least=N&timeout=SECONDS` waits for so many requests
    POST /sim/release/NAME       continue answers that wait at [[wait: NAME]]

It accepts any key, but, like a real provider, no request without one.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import web

from fleet.sim.provider import anthropic_api, completions_api, prompt_directives, responses_api, scripted_replies
from fleet.sim.provider import request_script as script
from fleet.sim.provider.api_writer import ResponseEnvelope
from fleet.sim.provider.billing_ledger import LONGEST_TEXT, BilledRequest, BillingLedger
from fleet.sim.provider.normalized_request import Api, BadRequest, NormalizedRequest, turn_of
from fleet.sim.provider.prompt_directives import Say, Think, WaitDirective
from fleet.sim.provider.quota_headers import SimWindows
from fleet.sim.provider.request_script import Script
from fleet.sim.provider.response_delivery import ResponseDelivery
from fleet.sim.provider.response_stream import ResponseStream, refusal
from fleet.sim.provider.token_count import BilledTokens, PrefixCache

MODELS = ("claude-sonnet-4-5", "claude-opus-4-5", "claude-haiku-4-5", "gpt-5", "gpt-5-mini", "sim-1")
LARGEST_REQUEST = 160 * 1024 * 1024
_COUNT_ID = "req_count0000"
_READERS: Mapping[Api, Callable[[Mapping[str, Any]], NormalizedRequest]] = {
    "anthropic": anthropic_api.read,
    "responses": responses_api.read,
    "chat": completions_api.read,
}


@dataclass(frozen=True, kw_only=True)
class SimSettings:
    host: str = "127.0.0.1"
    port: int = 0
    """0: any free one."""
    unix: Path | None = None
    """Listen on this socket instead."""
    script: Script = field(default_factory=script.Script)
    log: Path | None = None
    """Finished requests are appended here, one JSON object per line."""
    clock: Callable[[], float] = time.time


class Provider:
    """The server, its memory and its ledger."""

    def __init__(self, settings: SimSettings | None = None) -> None:
        self._settings = settings or SimSettings()
        self._log = self._settings.log.open("a", encoding="utf-8") if self._settings.log else None
        self._cache = PrefixCache()
        self._windows: dict[str, SimWindows] = {}
        self._attempts: Counter[str] = Counter()
        self._gates: dict[str, asyncio.Event] = {}
        self._runner: web.AppRunner | None = None
        self.ledger = BillingLedger(self._log)
        self.url = ""
        self.answers_as: str | None = None
        """The model that answers, whichever was asked for; None: that one."""

    async def start(self) -> str:
        """Listen, and say where: an http:// address, or unix: and the path."""
        app = web.Application(client_max_size=LARGEST_REQUEST)
        app.add_routes(
            [
                web.get("/", self._about),
                web.get("/v1/models", self._models),
                web.post("/v1/messages", partial(self._ask, api="anthropic")),
                web.post("/v1/messages/count_tokens", self._count_tokens),
                web.post("/v1/responses", partial(self._ask, api="responses")),
                web.post("/v1/responses/input_tokens", self._input_tokens),
                web.get("/v1/responses", self._upgrade),
                web.post("/v1/chat/completions", partial(self._ask, api="chat")),
                web.get("/sim/ledger", self._show_ledger),
                web.post("/sim/release/{name}", self._release),
            ]
        )
        # A client that goes away ends its answer at once, wherever it stands.
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.5, access_log=None)
        await self._runner.setup()
        if self._settings.unix is not None:
            await web.UnixSite(self._runner, str(self._settings.unix)).start()
            self.url = f"unix:{self._settings.unix}"
        else:
            site = web.TCPSite(self._runner, self._settings.host, self._settings.port)
            await site.start()
            host, port = self._runner.addresses[0][:2]
            self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        return self.url

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        if self._log is not None:
            self._log.close()

    def release(self, name: str) -> None:
        """Let answers go on that stand, or will stand, at this gate."""
        self._gate(name).set()

    def _gate(self, name: str) -> asyncio.Event:
        return self._gates.setdefault(name, asyncio.Event())

    # What is no question to a model.

    async def _about(self, request: web.Request) -> web.Response:
        return web.json_response({"name": "Muster's simulated provider", "models": MODELS})

    async def _models(self, request: web.Request) -> web.Response:
        if "anthropic-version" in request.headers:
            rows = [
                {"type": "model", "id": name, "display_name": name, "created_at": "2025-01-01T00:00:00Z"}
                for name in MODELS
            ]
            return web.json_response({"data": rows, "has_more": False, "first_id": MODELS[0], "last_id": MODELS[-1]})
        listed = [{"id": name, "object": "model", "created": 1_735_689_600, "owned_by": "muster"} for name in MODELS]
        return web.json_response({"object": "list", "data": listed})

    async def _upgrade(self, request: web.Request) -> web.Response:
        # Codex tries a WebSocket first, and takes to HTTP on this status alone.
        return web.Response(status=426, headers={"Upgrade": "websocket"})

    async def _count_tokens(self, request: web.Request) -> web.StreamResponse:
        try:
            asked = anthropic_api.read(await _body(request), counting=True)
        except BadRequest as error:
            return refusal("anthropic", 400, str(error), _COUNT_ID)
        return web.json_response({"input_tokens": sum(part.tokens for part in asked.segments)})

    async def _input_tokens(self, request: web.Request) -> web.StreamResponse:
        try:
            asked = responses_api.read(await _body(request))
        except BadRequest as error:
            return refusal("responses", 400, str(error), _COUNT_ID)
        counted = sum(part.tokens for part in asked.segments)
        return web.json_response({"object": "response.input_tokens", "input_tokens": counted})

    async def _show_ledger(self, request: web.Request) -> web.Response:
        query = request.query
        try:
            after, at_least = int(query.get("after", 0)), int(query.get("at_least", 0))
            timeout = min(60.0, float(query.get("timeout", 0)))
        except ValueError as error:
            return web.json_response({"error": str(error)}, status=400)

        def matches(entry: BilledRequest) -> bool:
            return (
                entry.number > after
                and query.get("contains", "") in entry.text
                and query.get("state", entry.state) == entry.state
            )

        found = await self.ledger.find(matches, at_least=at_least, timeout=timeout)
        return web.json_response({"requests": [entry.to_json() for entry in found]})

    async def _release(self, request: web.Request) -> web.Response:
        self.release(request.match_info["name"])
        return web.json_response({})

    # Questions to a model.

    async def _ask(self, http: web.Request, *, api: Api) -> web.StreamResponse:
        number = self.ledger.next_number()
        request_id = f"req_sim{number:08d}"
        key = http.headers.get("x-api-key") or http.headers.get("Authorization", "").removeprefix("Bearer ")
        if not key:
            return refusal(api, 401, "", request_id)
        try:
            request = _READERS[api](await _body(http))
        except BadRequest as error:
            return refusal(api, 400, str(error), request_id)
        account = hashlib.sha256(key.encode()).hexdigest()[:12]
        self._attempts[request.digest] += 1
        turn = turn_of(request.items)
        entry = BilledRequest(
            number=number,
            id=request_id,
            api=api,
            model=request.model,
            account=account,
            at=self._settings.clock(),
            stream=request.stream,
            attempt=self._attempts[request.digest],
            text=turn.text[:LONGEST_TEXT],
            results=len(turn.results),
            spoken=turn.spoken,
            tools=len(request.tools),
            max_tokens=request.max_tokens,
        )
        await self.ledger.put(entry)
        windows = self._windows.setdefault(account, SimWindows(self._settings.script.limits))
        subscription = "x-api-key" not in http.headers and (api == "anthropic" or "chatgpt-account-id" in http.headers)
        headers = {
            **windows.headers(api, entry.at, subscription=subscription),
            ("request-id" if api == "anthropic" else "x-request-id"): request_id,
        }
        order = self.order(number, request)
        steps = scripted_replies.reply(request, order)
        if subscription and windows.turns_away(entry.at, request.model):
            # Wherever in a turn it is: before a tool's output is read, too.
            steps, _ = prompt_directives.parse(
                "[[error: 429 This plan has nothing left until its window begins anew.]]"
            )
        delivery = self.delivery(turn.text if order is None else order)
        envelope = ResponseEnvelope(
            id=request.digest[:20] + f"{entry.attempt:02d}",
            model=self.answers_as or request.model,
            created=int(entry.at),
            include_usage=request.include_usage,
            request_id=request_id,
            report=delivery.report,
        )
        answer = ResponseStream(self, http, request, entry, envelope, headers, delivery)
        try:
            return await answer.give(steps)
        except ConnectionError:
            return answer.gone()
        except asyncio.CancelledError:
            answer.gone()
            raise
        finally:
            usage = answer.usage
            windows.spend(entry.at, usage.whole_input, usage.output, request.model)
            await self.ledger.put(answer.entry(self._settings.clock()))

    def order(self, number: int, request: NormalizedRequest) -> str | None:
        """Return directives that stand in for those in the person's text, or None."""
        return self._settings.script.order(number, turn_of(request.items).text)

    def delivery(self, text: str) -> ResponseDelivery:
        """Return how the answer to these directives is delivered."""
        return ResponseDelivery()

    def bill_input(self, request: NormalizedRequest, account: str) -> BilledTokens:
        owner = f"{account}/{request.api}/{request.model}"
        return self._cache.bill(request.segments, owner=owner, marked=request.api == "anthropic")

    def pieces(self, request: NormalizedRequest, step: Say | Think) -> Iterable[str]:
        """Return the chunks that a text is sent in: the same ones for the same question."""
        if isinstance(step, Say) and step.pieces:
            return step.pieces
        dice = random.Random(f"{request.digest}:{step.text}")  # noqa: S311
        pieces, place = [], 0
        while place < len(step.text):
            size = dice.randint(2, 30)
            pieces.append(step.text[place : place + size])
            place += size
        return pieces

    async def stand(self, wait: WaitDirective) -> None:
        await (asyncio.Event() if wait.name is None else self._gate(wait.name)).wait()


async def _body(request: web.Request) -> Mapping[str, Any]:
    try:
        body = json.loads(await request.read())
    except (UnicodeDecodeError, ValueError) as error:
        raise BadRequest(f"the body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise BadRequest("the body is not a JSON object")
    return body


@asynccontextmanager
async def running(settings: SimSettings | None = None) -> AsyncIterator[Provider]:
    """A provider that serves while the block runs."""
    provider = Provider(settings)
    await provider.start()
    try:
        yield provider
    finally:
        await provider.stop()


async def _serve(settings: SimSettings, *, until_eof: bool) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with running(settings) as provider:
        print(provider.url, flush=True)
        if until_eof:
            reader = asyncio.StreamReader()
            await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
            ended = asyncio.create_task(reader.read(), name="lifeline")
            ended.add_done_callback(lambda _: stopped.set())
        await stopped.wait()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m fleet.sim.provider", description="A model provider that costs nothing."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0, the default, takes any free one")
    parser.add_argument("--unix", type=Path, help="listen on this socket instead of a port")
    parser.add_argument("--script", type=Path, help="orders by the number of the request, YAML or JSON")
    parser.add_argument("--log", type=Path, help="append finished requests to this file, one JSON object per line")
    parser.add_argument("--until-eof", action="store_true", help="stop when standard input is closed")
    chosen = parser.parse_args(arguments)
    try:
        orders = script.read(chosen.script) if chosen.script else script.Script()
        settings = SimSettings(
            host=chosen.host,
            port=chosen.port,
            unix=chosen.unix,
            script=orders,
            log=chosen.log,
        )
        asyncio.run(_serve(settings, until_eof=chosen.until_eof))
    except (script.ScriptError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0
