"""An egress as its own process, with a simulated provider behind it: to be asked, killed and started again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from budget.tokens import Tokens
from egress.daemon.control_client import EgressControlClient
from egress.errors import EgressUnreachable
from egress.ledger.model import LedgerEntry, Observation
from egress.paths import EgressPaths
from egress.settings import AccountSettings, Address, AgentRegistration, EgressSettings, LimitSettings
from fleet.sim.provider.billing_ledger import BilledRequest
from fleet.sim.provider.server import Provider
from tests import waiting

LIMIT_S = 60.0
#: After everything.
_FAR = 2**60
KEYS = {"env:ANTHROPIC_KEY": "sk-ant-real-credential", "env:OPENAI_KEY": "sk-oai-real-credential"}


class Premises:
    """The process, and the way to speak to it."""

    def __init__(self, home: Path, provider: Provider, agents: Sequence[str]) -> None:
        self.paths = EgressPaths(state=home / "state", sockets=home / "run")
        for folder in (self.paths.state, self.paths.sockets):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.provider = provider
        self.agents = tuple(agents)
        self.addresses: dict[str, Address] = {}
        self.client = EgressControlClient(self.paths.control)
        self.open = asyncio.Event()
        """The egress can be asked."""
        self.limits: tuple[LimitSettings, ...] = ()
        self._home = home
        self._process: asyncio.subprocess.Process | None = None
        self.starts = 0
        self.below: tuple[str, ...] = ()
        """The command that starts it, if it is not started as it is."""

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Start it, and tell it what it has to know the first time; a second start must remember everything."""
        with (self._home / "egress.stderr").open("ab") as errors:
            self._process = await asyncio.create_subprocess_exec(
                *(*self.below, sys.executable, "-P", "-m", "egress.process"),
                *("--state", str(self.paths.state), "--sockets", str(self.paths.sockets)),
                env={"PATH": os.defpath, "HOME": str(self._home)},
                cwd=Path(__file__).parents[2],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
            )
        async with asyncio.timeout(LIMIT_S):
            while True:
                if self._process.returncode is not None:
                    raise AssertionError(f"the egress did not start: {self.errors()}")
                with contextlib.suppress(EgressUnreachable):
                    await self.client.status()
                    break
                await asyncio.sleep(0.02)
        await self.configure()
        if self.starts == 0:
            for agent in self.agents:
                self.addresses[agent] = await self.client.register(self.registration(agent))
        self.starts += 1
        self.open.set()

    async def configure(self) -> None:
        """Settings and secrets; the latter are in its memory alone."""
        url = self.provider.url
        settings = EgressSettings(
            host="here",
            accounts=(
                AccountSettings(name="anthropic", provider="anthropic", upstream=url, credential="env:ANTHROPIC_KEY"),
                AccountSettings(name="openai", provider="openai", upstream=url, credential="env:OPENAI_KEY"),
            ),
            limits=self.limits,
            revision=str(len(self.limits)),
        )
        await self.client.settings(settings, KEYS)

    def registration(self, agent: str) -> AgentRegistration:
        return AgentRegistration(
            agent=agent,
            launch_id=f"launch-{agent}",
            role="coder",
            accounts={"anthropic": "anthropic", "openai": "openai"},
            profile="bubblewrap",
            profiles=("bubblewrap",),
        )

    def kill(self) -> None:
        """kill -9, now. It can be asked again after `revive`."""
        self.open.clear()
        os.kill(self.pid, signal.SIGKILL)

    async def gone(self) -> None:
        """Until the kernel has taken it away."""
        assert self._process is not None
        await self._process.wait()
        await self.client.close()
        self.client = EgressControlClient(self.paths.control)

    async def revive(self) -> None:
        """Start it again after it was killed."""
        await self.gone()
        await self.start()

    async def stop(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            try:
                async with asyncio.timeout(LIMIT_S):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
                raise AssertionError(f"the egress did not stop when it was asked to: {self.errors()}") from None
        await self.client.close()

    def errors(self) -> str:
        """What it wrote where nobody should have to look."""
        written = (self._home / "egress.stderr").read_text(errors="replace")
        log = self.paths.log.read_text(errors="replace") if self.paths.log.exists() else ""
        return (written + log)[-4_000:]

    async def rows(self, at_least: int = 0) -> list[LedgerEntry]:
        """The whole ledger, once it has so many rows."""
        rows: list[LedgerEntry] = []
        async with asyncio.timeout(LIMIT_S):
            while True:
                after = rows[-1].seq if rows else 0
                wait_s = 5.0 if len(rows) < at_least else 0.0
                page = await self.client.entries(
                    after=after, observations_after=_FAR, actions_after=_FAR, wait_s=wait_s
                )
                rows += [entry_of(row) for row in page["entries"]]
                if not page["entries"] and len(rows) >= at_least:
                    return rows

    async def observations(self) -> list[Observation]:
        """What was seen of quotas."""
        found: list[Observation] = []
        after = 0
        while True:
            page = (await self.client.entries(after=_FAR, observations_after=after, actions_after=_FAR))["observations"]
            if not page:
                return found
            after = page[-1]["seq"]
            names = Observation.__dataclass_fields__
            found += [Observation(**{key: value for key, value in one.items() if key in names}) for one in page]

    async def idle(self) -> None:
        """Until nothing is under way any more."""
        await waiting.until(self.client.status, lambda found: not found["streams"], limit=LIMIT_S)

    async def served(self) -> tuple[BilledRequest, ...]:
        """The provider's ledger, when it has no answer under way any more."""
        await waiting.until(
            lambda: not any(entry.state == "running" for entry in self.provider.ledger.entries), limit=LIMIT_S
        )
        return self.provider.ledger.entries


def entry_of(row: dict[str, Any]) -> LedgerEntry:
    """A row as the control socket tells it."""
    names = LedgerEntry.__dataclass_fields__
    return LedgerEntry(
        **{key: value for key, value in row.items() if key in names} | {"tokens": Tokens(**row["tokens"])}
    )


@asynccontextmanager
async def egress(
    home: Path, provider: Provider, agents: Sequence[str], *, below: Sequence[str] = ()
) -> AsyncIterator[Premises]:
    """An egress that runs while the block does, started by `below` if that is given; it must end in good order."""
    premises = Premises(home, provider, agents)
    premises.below = tuple(below)
    try:
        await premises.start()
        yield premises
    finally:
        await premises.stop()
