"""What is asked of the gate, and what it answers: the words between the proxy and the gate."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from budget.limits.input_bound import Contents
from budget.tokens import Tokens
from core.errors import MusterError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from egress.ledger.model import Ended, Observation
    from egress.provider_endpoints import Api, Provider


# Not frozen, since that triples the cost of creating one for each request.
@dataclass(kw_only=True, slots=True)
class AdmissionRequest:
    """A metered request that wants to leave."""

    agent: str
    account: str
    provider: Provider
    api: Api
    model: str | None
    body_bytes: int
    """Of the request as it came."""
    max_tokens: int | None
    """The bound on output that the request sets; None: it sets none."""
    attempt: int = 1
    session: str | None = None
    turn: str | None = None
    task: str | None = None
    choices: int = 1
    """So many answers are asked for."""
    searches: int = 0
    """So often the provider may search the web for it."""
    contents: Contents = field(default_factory=Contents)
    measure: Callable[[], Awaitable[Measured]] | None = None
    """Measures its input more closely, and takes a while; None: it cannot be."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What became known of an input."""

    counted: int | None = None
    """Its tokens, by the provider's own count."""
    density: int | None = None
    """The tokens of the body's text, as its characters make them likely."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """Why a request is ended in the middle."""

    reason: str
    """A sentence for the agent and for people: which budget or whose command, how much, and what opens it again."""
    scope: str | None = None


class AdmissionRefused(MusterError):
    """The gate does not let a request leave. The message says which budget, how much, and what opens it."""

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
    """How an admitted request ended, as the proxy saw it."""

    ended: Ended
    status: int | None = None
    tokens: Tokens = field(default_factory=Tokens)
    """As the provider reported it, or as it was estimated from what streamed."""
    reported: bool = False
    """`tokens` is what the provider bills. False with a status of 400 or above, or no status: nothing was used, as far
    as is known; the row then costs nothing. False otherwise: the gate charges the larger of `tokens` and what it
    must assume."""
    sent: bool = True
    """The request reached the provider, as far as is known. False: it costs nothing."""
    lost: bool = False
    """The client had left this document, and the provider was lost before its end. The provider may have billed all
    that was reserved."""
    model: str | None = None
    raw: Mapping[str, Any] | None = None
    detail: str | None = None
    """The type of the error (egress.ledger.model.ERROR_TYPES)."""
    first_byte_s: float | None = None
    observations: tuple[Observation, ...] = ()
    response_id: str | None = None
    """The provider's name for the response."""


class AdmittedRequest(Protocol):
    """An admitted request: its reservation is durable, and it may leave."""

    @property
    def id(self) -> str:
        """Of its row in the ledger."""
        ...

    @property
    def max_tokens(self) -> int | None:
        """The bound on output that must hold; None: the request's own, or none, is low enough."""
        ...

    @property
    def near(self) -> bool:
        """A limit that governs has so little left that the response has to be one that can be cut: a stream."""
        ...

    @property
    def cut(self) -> Cut | None:
        """Set once the request must end."""
        ...

    def on_cut(self, act: Callable[[Cut], None]) -> None:
        """Call `act` as soon as the request must end, at once when that is already so. It must not block or raise."""
        ...

    def progress(self, so_far: Tokens) -> None:
        """Count what the response used so far (never less than before). May cut this request and others, at once."""
        ...

    def told(self, so_far: Tokens) -> int:
        """Keep what a stream has told, its input included: should the egress end, this is charged for the request.

        Returns:
            From how many tokens of output on it wants to be told again.
        """
        ...

    async def settle(self, ending: Ending) -> None:
        """Write the row and give the reservation back; durable when it returns. A second call does nothing.

        Raises:
            LedgerUnwritable: it could not be written; nothing of the response's end may leave.
        """
        ...


class Gatekeeper(Protocol):
    """What the proxy needs of the gate (egress.limits.admission_control.AdmissionControl)."""

    async def admit(self, asked: AdmissionRequest) -> AdmittedRequest:
        """Reserve, durably, against every limit that governs. Near a limit it may wait for others to end.

        Raises:
            Refused: a limit, a denial or the emergency stop is in the way.
            LedgerUnwritable: the reservation could not be made durable.
        """
        ...

    def denied(self, agent: str) -> Cut | None:
        """Return why nothing of this agent's may leave, metered or not; None: it may."""
        ...

    def observe(self, observations: tuple[Observation, ...]) -> None:
        """Keep what a response said of quotas that was not metered."""
        ...

    def watch(self, agent: str, act: Callable[[Cut], None]) -> Callable[[], None]:
        """Call `act` when this agent is cut off (for tunnels and harmless calls). Returns how to stop watching."""
        ...
