"""A whole egress in the test's own loop, before a real (simulated) provider."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from egress.daemon.egress_service import Egress
from egress.daemon.startup import running
from egress.http.metered_exchange import MeteredExchange
from egress.ledger.model import LedgerEntry
from egress.paths import EgressPaths
from egress.settings import AccountSettings, AgentRegistration, EgressSettings, LimitSettings
from egress.tunnel.checked_dns_resolver import Resolver
from fleet.sim.provider import server as provider

KEY = "sk-the-real-one"


def anthropic(text: str = "hello", *, stream: bool = False, max_tokens: int = 1_000, **more: Any) -> dict[str, Any]:
    """A Messages request."""
    asked = {"model": "claude-sonnet-4-5", "max_tokens": max_tokens, "messages": [{"role": "user", "content": text}]}
    return {**asked, **({"stream": True} if stream else {}), **more}


def responses(text: str = "hello", *, stream: bool = False, **more: Any) -> dict[str, Any]:
    """A Responses request."""
    return {"model": "gpt-5", "input": text, **({"stream": True} if stream else {}), **more}


def chat(text: str = "hello", *, stream: bool = False, **more: Any) -> dict[str, Any]:
    """A Chat Completions request."""
    asked = {"model": "gpt-5", "messages": [{"role": "user", "content": text}]}
    return {**asked, **({"stream": True} if stream else {}), **more}


@contextmanager
def keeping() -> Iterator[type[aiohttp.ClientResponse]]:
    """A class of responses for a session: at the end those are closed, too, that a test did not read."""
    kept: list[aiohttp.ClientResponse] = []

    class Kept(aiohttp.ClientResponse):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            kept.append(self)

    try:
        yield Kept
    finally:
        for response in kept:
            response.close()


@contextmanager
def leaving() -> Iterator[asyncio.Event]:
    """Set once the egress has noticed that a client left before the end of its answer; for requests from here on."""
    left, leave = asyncio.Event(), MeteredExchange.leave

    def noted(self: MeteredExchange) -> None:
        leave(self)
        if self.left:
            left.set()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MeteredExchange, "leave", noted)
        yield left


@dataclass
class Plane:
    """An egress, the provider behind it, and agents that use it."""

    egress: Egress
    paths: EgressPaths
    provider: provider.Provider
    agents: dict[str, aiohttp.ClientSession]
    response_class: type[aiohttp.ClientResponse]

    async def agent(self, name: str = "coder0", **more: Any) -> aiohttp.ClientSession:
        """Register an agent; a session that speaks over its listener, relative to its base URL."""
        given = {
            "agent": name,
            "launch_id": f"launch-{name}",
            "role": "coder",
            "accounts": {"anthropic": "main", "openai": "other"},
            **more,
        }
        address = await self.egress.register(AgentRegistration.model_validate(given))
        if name in self.agents:
            await self.agents.pop(name).close()
        connector: aiohttp.BaseConnector
        if address.socket is not None:
            connector, base = aiohttp.UnixConnector(address.socket), "http://egress/"
        else:
            connector, base = aiohttp.TCPConnector(), f"{address.url}/"
        session = aiohttp.ClientSession(
            base,
            connector=connector,
            headers={"x-api-key": "placeholder", "Authorization": "Bearer placeholder"},
            response_class=self.response_class,
        )
        self.agents[name] = session
        return session

    def settings(self, *accounts: AccountSettings) -> EgressSettings:
        """Settings with these accounts."""
        return EgressSettings(host="here", accounts=accounts)

    async def entries(self, at_least: int = 0) -> list[LedgerEntry]:
        """The rows of the ledger, once there are so many."""
        while True:
            head = self.egress.ledger.head
            if head.entries >= at_least:
                return await self.egress.ledger.entries_after(0, 1000)
            assert await self.egress.ledger.newer(head, 10) != head, f"no {at_least} entries, but {head}"


@asynccontextmanager
async def plane(
    folder: Path,
    *,
    limits: Sequence[LimitSettings] = (),
    accounts: Sequence[AccountSettings] | None = None,
    sim: provider.SimSettings | None = None,
    resolver: Resolver | None = None,
    control: bool = False,
    grace_s: float = 0.0,
) -> AsyncIterator[Plane]:
    """An egress that serves while the block runs: accounts ``main`` (Anthropic) and ``other`` (OpenAI), no agents.

    Args:
        folder: for its state and its sockets (a short path, for those).
        limits: of the host.
        accounts: instead of those two.
        sim: of the provider.
        resolver: finds the hosts to which tunnels lead.
        control: whether it has its control socket.
        grace_s: what is under way at the end gets so long.
    """
    paths = EgressPaths(state=folder / "state", sockets=folder / "run")
    async with provider.running(sim) as behind:
        secret = folder / "key"
        secret.write_text(KEY)
        if accounts is None:
            accounts = (
                AccountSettings(name="main", provider="anthropic", upstream=behind.url, credential=f"file:{secret}"),
                AccountSettings(name="other", provider="openai", upstream=behind.url, credential=f"file:{secret}"),
            )
        settings = EgressSettings(host="here", accounts=tuple(accounts), limits=tuple(limits), revision="1")
        serving = running(paths, settings=settings, resolver=resolver, control=control, grace_s=grace_s)
        async with serving as egress:
            with keeping() as kept:
                made = Plane(egress=egress, paths=paths, provider=behind, agents={}, response_class=kept)
                try:
                    yield made
                finally:
                    for session in made.agents.values():
                        await session.close()


def events(content: bytes) -> list[dict[str, Any]]:
    """The data of the events of a stream, but for the closing word of Chat Completions."""
    lines = [line.removeprefix(b"data: ") for line in content.splitlines() if line.startswith(b"data: {")]
    return [json.loads(line) for line in lines]
