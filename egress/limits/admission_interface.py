"""The interface between the proxy and admission control."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from budget.limits.input_bound import Contents
from budget.tokens import Tokens
from core.errors import MusterError
from egress.ledger.model import Ended, Observation
from egress.provider_endpoints import Api, Provider


# Not frozen, since that triples the cost of creating one for each request.
@dataclass(kw_only=True, slots=True)
class AdmissionRequest:
    """A metered request that asks for admission."""

    agent: str
    account: str
    provider: Provider
    api: Api
    model: str | None
    body_bytes: int
    """Length of the request's body as received."""
    max_tokens: int | None
    """The bound on output that the request sets, or None."""
    attempt: int = 1
    session: str | None = None
    turn: str | None = None
    task: str | None = None
    choices: int = 1
    """The number of answers that the request asks for."""
    searches: int = 0
    """How often the provider may search the web for it."""
    contents: Contents = field(default_factory=Contents)
    measure: Callable[[], Awaitable[Measured]] | None = None
    """Measures its input more closely, which takes a while; None: impossible."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """The result of measuring an input."""

    counted: int | None = None
    """Its tokens, by the provider's own count."""
    density: int | None = None
    """An estimate of the tokens of the body's text, from its characters."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """Why a running request is ended."""

    reason: str
    """A sentence for the agent and for people: which budget or whose command, how much, and how to reopen it."""
    scope: str | None = None


class AdmissionRefused(MusterError):
    """Admission control refused a request. The message says which budget, how much, and how to open it."""

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: int | None = None,
        scope: str | None = None,
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        """Waiting so long helps (429); None: it does not (403)."""
        self.scope = scope
        self.detail = detail or {}
        """For the audit: what was in the way."""


# Not frozen, since that triples the cost of creating one for each request.
@dataclass(kw_only=True, slots=True)
class Ending:
    """How an admitted request ended, as observed by the proxy."""

    ended: Ended
    status: int | None = None
    tokens: Tokens = field(default_factory=Tokens)
    """As reported by the provider, or as estimated from the stream."""
    reported: bool = False
    """Whether `tokens` is what the provider bills. If False and the status is 400 or above or missing, the request is
    assumed to have used nothing: its row costs nothing. If False otherwise, admission control charges the larger of
    `tokens` and its own assumption."""
    sent: bool = True
    """Whether the request reached the provider, as far as is known. False: it costs nothing."""
    lost: bool = False
    """Whether the client had disconnected from this document, and the provider's connection broke before its end. The
    provider may have billed the whole reservation."""
    model: str | None = None
    raw: Mapping[str, Any] | None = None
    detail: str | None = None
    """The type of the error (egress.ledger.model.ERROR_TYPES)."""
    first_byte_s: float | None = None
    observations: tuple[Observation, ...] = ()
    response_id: str | None = None
    """The provider's id of the response."""


class AdmittedRequest(Protocol):
    """An admitted request: its reservation is durable, and it may leave."""

    @property
    def id(self) -> str:
        """The id of its row in the ledger."""
        ...

    @property
    def max_tokens(self) -> int | None:
        """The bound on output to set in the request; None: the request's own bound, or none, is low enough."""
        ...

    @property
    def near(self) -> bool:
        """Whether so little is left of a governing limit that the response must be a stream, which can be cut."""
        ...

    @property
    def cut(self) -> Cut | None:
        """The reason why the request must end, or None."""
        ...

    def on_cut(self, act: Callable[[Cut], None]) -> None:
        """Call `act` as soon as the request must end, or at once if it already must. It must not block or raise."""
        ...

    def progress(self, so_far: Tokens) -> None:
        """Count what the response has used so far (never less than before). May cut this request and others, at
        once."""
        ...

    def told(self, so_far: Tokens) -> int:
        """Keep what a stream has reported, including its input. If the egress ends, this is charged for the request.

        Returns:
            The number of output tokens at which to call it again.
        """
        ...

    async def settle(self, ending: Ending) -> None:
        """Write the ledger row and release the reservation; durable when it returns. A second call does nothing.

        Raises:
            LedgerUnwritable: the row could not be written; the end of the response must not be sent.
        """
        ...


class Gatekeeper(Protocol):
    """What the proxy needs from admission control (egress.limits.admission_control.AdmissionControl)."""

    async def admit(self, asked: AdmissionRequest) -> AdmittedRequest:
        """Reserve durably against every governing limit. Near a limit, it may wait for other requests to end.

        Raises:
            AdmissionRefused: a limit, a denial or the emergency stop forbids the request.
            LedgerUnwritable: the reservation could not be made durable.
        """
        ...

    def denied(self, agent: str) -> Cut | None:
        """Return why no traffic of this agent may leave, metered or not, or None if it may."""
        ...

    def observe(self, observations: tuple[Observation, ...]) -> None:
        """Keep the quotas that an unmetered response reported."""
        ...

    def watch(self, agent: str, act: Callable[[Cut], None]) -> Callable[[], None]:
        """Call `act` when this agent is cut off (for tunnels and unmetered calls). Return a function that stops
        watching."""
        ...
