"""The proxy for agents' requests: it identifies and checks each request, and forwards it with a credential."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog
from multidict import CIMultiDict

from core.async_waits import set_within
from egress import provider_endpoints
from egress.http import (
    error_responses,
    header_filter,
    request_body_policy,
    request_target,
    response_writer,
    unmetered_calls,
)
from egress.http.error_responses import ErrorResponse
from egress.http.metered_exchange import MeteredExchange
from egress.http.registered_agent import RegisteredAgent
from egress.http.request_body_policy import RequestPolicy
from egress.http.request_target import RequestTarget
from egress.http.unmetered_costs import RequestNotAllowed
from egress.ledger.model import LedgerUnwritable
from egress.limits.admission_interface import AdmissionRefused, AdmissionRequest, Cut, Ending, Gatekeeper, Measured
from egress.limits.provider_token_count import Counter
from egress.provider_endpoints import Api, Operation, Provider
from egress.request.agent_request import AgentRequest, BrokenBody
from egress.request.body_buffer import Bodies, Body, Stalled, TooLong, TooManyRequests
from egress.settings import AccountSettings, EgressSettings
from egress.upstream.connection_pool import Upstream
from egress.upstream.credentials import Credentials, NoCredential
from egress.upstream.response_reader import Response
from egress.usage import document_assembly, text_token_estimate

_T = TypeVar("_T")

_log = structlog.get_logger("egress.http.proxy")

#: The number of concurrent requests of one agent.
MOST_REQUESTS: Final = 256
_KNOWN_ENCODINGS: Final = frozenset({"", "identity", "gzip", "deflate", "br", "zstd"})
_MOST_ATTEMPTS: Final = 100
#: How long settlements may take at shutdown, in seconds. The next egress charges what is not settled then.
_SETTLE_S: Final = 10.0


class Proxy:
    """Serves every listener. Must be closed."""

    def __init__(
        self,
        *,
        gate: Gatekeeper,
        settings: EgressSettings,
        spool: Path,
        note: Callable[[str, str, str], None],
        way: Upstream | None = None,
        clock: Callable[[], float] = time.time,
        credentials: Credentials | None = None,
    ) -> None:
        """`note` writes an agent, an action and its cause to the audit, and bounds the number of rows itself; `clock`
        returns seconds since the epoch."""
        self._gate = gate
        self._note = note
        self._clock = clock
        self._upstream = way or Upstream()
        self._bodies = Bodies(spool)
        self._counter = Counter(self._upstream, self._bodies)
        self.credentials = credentials or Credentials()
        self._accounts: Mapping[str, AccountSettings] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._exchanges: set[MeteredExchange] = set()
        self._stopping = False
        self._idle = asyncio.Event()
        self.take(settings)

    def take(self, settings: EgressSettings) -> None:
        """Apply these settings from the next request on."""
        self._accounts = {account.name: account for account in settings.accounts}

    def refused(self, line: RegisteredAgent, cause: str) -> None:
        """Write an agent's invalid attempt to the audit."""
        self._note(line.agent, "refused", cause)

    @property
    def streams(self) -> int:
        """The number of running metered requests."""
        return len(self._exchanges)

    async def close(self, grace_s: float = 0.0) -> None:
        """Refuse new requests, wait `grace_s` seconds for running ones, cut the rest, and settle all.

        Documents whose clients have left are given up: when the ledger is next opened, they are charged with their
        reservation.
        """
        self._stopping = True
        if self._exchanges:
            await self._idle_within(grace_s)
        for exchange in list(self._exchanges):
            if exchange.left:
                exchange.give_up()
                continue
            exchange.cut(Cut(reason="The egress is being stopped. Try again when it is back."), status=503)
        if self._exchanges:
            await self._idle_within(_SETTLE_S)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_SETTLE_S)
        await self._counter.close()
        await self._upstream.close()

    async def _idle_within(self, seconds: float) -> None:
        self._idle.clear()
        await set_within(self._idle, seconds)

    def hold(self, work: Coroutine[None, None, None]) -> None:
        """Run this coroutine even if the client's task ends."""
        task = asyncio.create_task(work, name="egress settlement")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def serve(
        self, line: RegisteredAgent, request: AgentRequest, path: str, provider: Provider | None = None
    ) -> bool:
        """Answer one request, and return whether its connection may continue.

        Args:
            line: the agent, which only the listener identifies.
            request: the request as received.
            path: its target, without the listener's part.
            provider: the provider whose host the agent addressed; None: the path contains it.
        """
        answer = response_writer.ResponseWriter(request, self.credentials.secrets)
        api: Api = "responses" if provider == "openai" else "anthropic"
        if line.running >= MOST_REQUESTS:
            _refuse(answer, api, ErrorResponse(429, f"{line.agent} has {line.running} requests open.", retry_after_s=1))
            return answer.given()
        line.running += 1
        try:
            try:
                target = _target(request, path, provider)
            except ErrorResponse as refusal:
                self._note(line.agent, "refused", f"{request.method}: {refusal}")
                raise
            if target.provider is None:
                self._note(line.agent, "refused", f"{request.method} {target.path[:200]}: no provider's")
                raise ErrorResponse(404, "nothing is served here. Base URLs end in /anthropic or /openai/v1.")
            api = provider_endpoints.PROVIDERS[target.provider].api
            operation = provider_endpoints.operation(target.provider, request.method, target.path)
            if operation is None:
                raise self._unknown(line, request, target)
            api = operation.api
            if not operation.metered and (denied := self._gate.denied(line.agent)) is not None:
                # For metered requests, admission checks this.
                raise ErrorResponse(403, denied.reason)
            if self._stopping:
                raise ErrorResponse(503, "the egress is being stopped.", retry_after_s=2, close=True)
            await self._forward(line, request, answer, target, operation)
        except ErrorResponse as refusal:
            _refuse(answer, api, refusal)
        except ConnectionError:
            answer.abort()
        except BrokenBody:
            _refuse(answer, api, ErrorResponse(400, "the coding of the request's body is broken.", close=True))
        except Exception:
            # The client gets an error, if it can still receive one.
            _log.exception("request failed", agent=line.agent, method=request.method)
            _refuse(answer, api, ErrorResponse(500, "the egress failed; see its log.", close=True))
        finally:
            line.running -= 1
        return answer.given()

    def _unknown(self, line: RegisteredAgent, request: AgentRequest, target: RequestTarget) -> ErrorResponse:
        if request.method == "GET" and target.path == "/v1/responses":
            return ErrorResponse(426, "this is no WebSocket; send the request by HTTP.")
        self._note(
            line.agent, "refused", f"{request.method} {target.provider} {target.path[:200]}: not among the calls"
        )
        return ErrorResponse(
            403,
            f"{request.method} {target.path[:200]} is none of the calls that leave from here: models are asked, "
            "listed and asked to count; everything else of a provider is closed to agents.",
        )

    async def _forward(
        self,
        line: RegisteredAgent,
        request: AgentRequest,
        answer: response_writer.ResponseWriter,
        target: RequestTarget,
        operation: Operation,
    ) -> None:
        assert target.provider is not None
        account = self._account(line, target.provider)
        if not operation.metered and request.method != "POST" and not request.content.at_eof():
            # A server that expects no body would take it for the next request, and another client would get that
            # answer.
            self._note(line.agent, "refused", f"{request.method} {target.path[:200]} with a body")
            raise ErrorResponse(400, f"a {request.method} has no body here.", close=True)
        if not operation.metered and (wait_s := line.pace.take()) is not None:
            raise ErrorResponse(
                429,
                f"{line.agent} may list models and count tokens {unmetered_calls.PER_SECOND:.0f} times a second, "
                f"long, and {unmetered_calls.BURST} times at once. Ask again in {wait_s} s.",
                retry_after_s=wait_s,
                close=not request.content.at_eof(),
            )
        body = await self._body(line, request, answer, None if operation.metered else unmetered_calls.LONGEST)
        try:
            if operation.metered:
                await self._metered(line, request, answer, target, operation.api, account, body)
            else:
                await self._harmless(line, request, answer, target, account, body)
        finally:
            body.close()

    def _account(self, line: RegisteredAgent, provider: Provider) -> AccountSettings:
        name = line.registration.accounts.get(provider)
        if name is None:
            raise ErrorResponse(403, f"{line.agent} has no account with {provider}. Add one to muster.yaml (accounts).")
        account = self._accounts.get(name)
        if account is None or account.provider != provider:
            raise ErrorResponse(403, f"there is no account {name} with {provider}. Set it up in muster.yaml.")
        return account

    async def _body(
        self, line: RegisteredAgent, request: AgentRequest, answer: response_writer.ResponseWriter, longest: int | None
    ) -> Body:
        expected = request.headers.get("Expect")
        if expected is not None:
            if expected.lower() != "100-continue":
                raise ErrorResponse(417, "nothing but 100-continue can be expected here.", close=True)
            if request.version >= (1, 1) and not request.content.at_eof():
                answer.go_on()
        if request.headers.get("Content-Encoding", "").strip().lower() not in _KNOWN_ENCODINGS:
            raise ErrorResponse(415, "the body is encoded in a way that is not known here; send it plain.", close=True)
        try:
            return await self._bodies.read(request, line.agent, longest)
        except TooLong as error:
            raise ErrorResponse(413, str(error), close=True) from None
        except TooManyRequests as error:
            raise ErrorResponse(503, str(error), retry_after_s=5, close=True) from None
        except Stalled as error:
            raise ErrorResponse(408, str(error), close=True) from None
        except OSError as error:
            if isinstance(error, ConnectionError):
                raise
            _log.error("spool not writable", agent=line.agent, error=str(error))
            raise ErrorResponse(503, "the egress has no room for long requests (a full disk?).", close=True) from None

    async def _outgoing(self, request: AgentRequest, account: AccountSettings) -> Any:
        credential = None
        if account.credential is not None and not account.passthrough:
            credential = self.credentials.known(account.credential)
            if credential is None:
                try:
                    credential = await self.credentials.get(account.credential)
                except NoCredential as error:
                    raise ErrorResponse(
                        503, f"the credential of the account {account.name} is unavailable: {error}"
                    ) from None
        try:
            return header_filter.outgoing(
                request.headers.items(), provider=account.provider, credential=credential, own=account.passthrough
            )
        except ValueError as error:
            raise ErrorResponse(400, str(error)) from None

    async def _metered(
        self,
        line: RegisteredAgent,
        request: AgentRequest,
        answer: response_writer.ResponseWriter,
        target: RequestTarget,
        api: Api,
        account: AccountSettings,
        body: Body,
    ) -> None:
        wanted = await self._read(line, api, body, account)
        outgoing = await self._outgoing(request, account)
        # The type that this proxy parsed, so that the provider does not parse it differently (as a form, in another
        # charset).
        outgoing["Content-Type"] = "application/json"
        where = line.turn.now()

        async def measure() -> Measured:
            return await self._measure(line, body, api, account, target, outgoing)

        asked = AdmissionRequest(
            agent=line.agent,
            account=account.name,
            provider=account.provider,
            api=api,
            model=wanted.model,
            body_bytes=body.size,
            max_tokens=wanted.max_tokens,
            choices=wanted.choices,
            searches=wanted.searches,
            contents=wanted.contents,
            measure=measure,
            attempt=_attempt(request),
            session=where.session,
            turn=where.turn,
            task=where.task,
        )
        try:
            lease = await self._gate.admit(asked)
        except AdmissionRefused as refused:
            final = refused.retry_after_s is None
            raise ErrorResponse(403 if final else 429, str(refused), retry_after_s=refused.retry_after_s) from None
        except LedgerUnwritable as error:
            raise ErrorResponse(503, str(error), retry_after_s=5) from None
        if self._stopping:
            # The shutdown began while the request waited.
            await lease.settle(Ending(ended="error", sent=False, detail="The egress was being stopped."))
            raise ErrorResponse(503, "the egress is being stopped.", retry_after_s=2, close=True)
        # Only a stream can be cut.
        assemble = (
            lease.near
            and wanted.assembles
            and document_assembly.knows_betas(request.headers.getall("anthropic-beta", ()))
        )
        exchange = MeteredExchange(
            lease=lease,
            answer=answer,
            account=account.name,
            provider=account.provider,
            api=api,
            document=not wanted.stream,
            assemble=assemble,
            hide_usage=wanted.stream and not wanted.include_usage,
            sent=lambda: body.begun,
            began=time.monotonic(),
            hold=self.hold,
            clock=self._clock,
        )

        async def send() -> Response:
            await self._rewrite(line, body, wanted, lease.max_tokens, as_stream=assemble)
            return await self._upstream.send(request.method, _url(account, target), outgoing, body)

        self._exchanges.add(exchange)
        self._tasks.add(_this_task())
        if not wanted.stream:
            # The request continues after its client leaves, and still counts as one of the agent's.
            request.protocol.stay(exchange.leave)
        try:
            status = await exchange.run(send)
        finally:
            self._tasks.discard(_this_task())
            self._exchanges.discard(exchange)
            if not self._exchanges:
                self._idle.set()
        if status == 401 and account.credential is not None:
            self.credentials.forget(account.credential)

    async def _measure(
        self,
        line: RegisteredAgent,
        body: Body,
        api: Api,
        account: AccountSettings,
        target: RequestTarget,
        outgoing: CIMultiDict[str],
    ) -> Measured:
        """Measure an input more closely: by the provider's own count, or else from its characters."""

        async def of(work: Callable[[], _T]) -> _T:
            return await self._bodies.work_on(line.agent, work) if body.long else work()

        if self._counter.may(api, account.name) and body.size <= unmetered_calls.LONGEST:
            content = await of(lambda: request_body_policy.countable(api, body.content()))
            counted = await self._counter.count(
                api=api,
                account=account.name,
                upstream=account.upstream,
                query=target.query,
                outgoing=outgoing,
                content=content,
            )
            if counted is not None:
                return Measured(counted=counted)
        table = text_token_estimate.OPENAI if api == "responses" else text_token_estimate.ANY
        return Measured(
            density=await of(lambda: text_token_estimate.tokens(text_token_estimate.weigh(table, body.content())))
        )

    async def _harmless(
        self,
        line: RegisteredAgent,
        request: AgentRequest,
        answer: response_writer.ResponseWriter,
        target: RequestTarget,
        account: AccountSettings,
        body: Body,
    ) -> None:
        outgoing = await self._outgoing(request, account)
        status = await unmetered_calls.carry(
            agent=line.agent,
            gate=self._gate,
            way=self._upstream,
            account=account,
            method=request.method,
            url=_url(account, target),
            outgoing=outgoing,
            body=body,
            answer=answer,
            clock=self._clock,
        )
        if status == 401 and account.credential is not None:
            self.credentials.forget(account.credential)

    async def _read(self, line: RegisteredAgent, api: Api, body: Body, account: AccountSettings) -> RequestPolicy:
        def read() -> RequestPolicy:
            return request_body_policy.read(
                api, body.content(), server_tools=account.server_tools, premium=account.premium
            )

        try:
            if not body.long:
                return read()
            return await self._bodies.work_on(line.agent, read)
        except RequestNotAllowed as error:
            raise ErrorResponse(error.status, str(error)) from None

    async def _rewrite(
        self, line: RegisteredAgent, body: Body, wanted: RequestPolicy, max_tokens: int | None, *, as_stream: bool
    ) -> None:
        """Insert the bound on output, the request for usage, and the request for a stream."""
        if not request_body_policy.edits(wanted, max_tokens, True, as_stream=as_stream):
            return

        def rewrite() -> None:
            body.put(request_body_policy.rewrite(body.content(), wanted, max_tokens, True, as_stream=as_stream))

        if not body.long:
            rewrite()
            return
        await self._bodies.work_on(line.agent, rewrite)


def _target(request: AgentRequest, path: str, provider: Provider | None) -> RequestTarget:
    hosts = request.headers.getall("Host", ())
    if len(hosts) > 1:
        raise ErrorResponse(400, "the request names more than one host.", close=True)
    lengths = request.headers.getall("Content-Length", ())
    if len(lengths) > 1 or (lengths and "Transfer-Encoding" in request.headers):
        raise ErrorResponse(400, "the request says twice how long its body is.", close=True)
    try:
        return request_target.read(path, provider=provider)
    except request_target.BadTarget as error:
        raise ErrorResponse(400, str(error), close=True) from None


def _url(account: AccountSettings, target: RequestTarget) -> str:
    return account.upstream.rstrip("/") + target.path + target.query


def _this_task() -> asyncio.Task[Any]:
    """Return the running task, which none of its own frames may keep.

    A canceled task keeps its traceback, and so its frames. A frame that keeps the task creates garbage that only the
    collector finds.
    """
    task = asyncio.current_task()
    assert task is not None
    return task


def _attempt(request: AgentRequest) -> int:
    """Return the number of the attempt. Anthropic's and OpenAI's clients count their retries in a header."""
    said = request.headers.get("x-stainless-retry-count", "")
    return min(int(said) + 1, _MOST_ATTEMPTS) if said.isascii() and said.isdecimal() and len(said) < 5 else 1


def _refuse(answer: response_writer.ResponseWriter, api: Api, refusal: ErrorResponse) -> None:
    found = list(response_writer.JSON)
    if refusal.retry_after_s is not None:
        found.append((b"Retry-After", b"%d" % refusal.retry_after_s))
    if refusal.status == 426:
        found.append((b"Upgrade", b"websocket"))
    if refusal.status == 403:
        # Tells the clients of OpenAI and Anthropic not to retry.
        found.append((b"x-should-retry", b"false"))
    message = str(refusal)
    if message.split(" ", 1)[0].isalpha():
        # Names of agents and parameters keep their case.
        message = message[:1].upper() + message[1:]
    content = error_responses.body(api, refusal.status, message)
    answer.refuse(error_responses.status_of(api, refusal.status), found, content, close=refusal.close)
