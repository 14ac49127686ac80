"""An agent with an open listener. Only the listener identifies the agent of a request."""

from __future__ import annotations

from egress.http.turn_attribution import TurnFile
from egress.http.unmetered_calls import CallRateLimiter
from egress.provider_endpoints import Provider
from egress.settings import AgentRegistration


class RegisteredAgent:
    """The state of one agent, for as long as it is registered."""

    def __init__(self, registration: AgentRegistration) -> None:
        self.renew(registration)
        self.running = 0
        self.pace = CallRateLimiter()

    def renew(self, registration: AgentRegistration) -> None:
        """Apply a new registration."""
        self.registration = registration
        self.turn = TurnFile(registration.turn_file)

    @property
    def agent(self) -> str:
        return self.registration.agent

    @property
    def routes(self) -> tuple[str, ...]:
        """Hosts that it may reach by tunnels."""
        return self.registration.routes

    def has_account(self, provider: Provider) -> bool:
        """Return whether it may call this provider's models at all."""
        return provider in self.registration.accounts
