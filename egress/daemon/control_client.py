"""Asynchronous client of the egress's control socket."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from egress.daemon.sync_control_client import ANSWER_S
from egress.errors import EgressRefused, EgressSilent, EgressUnreachable
from egress.settings import Address, AgentRegistration, EgressSettings

if TYPE_CHECKING:
    import aiohttp

#: For requests that the egress answers from memory, without the disk.
LOOK_S: Final = 5.0
#: The longest time that `entries` may wait for new rows.
LONGEST_WAIT_S: Final = 60.0


class EgressControlClient:
    """Client for one event loop. Must be closed; every method raises EgressUnreachable and EgressRefused."""

    def __init__(self, control: Path) -> None:
        """`control` is the socket's path (egress.paths.EgressPaths.control)."""
        self._control = control
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def __aenter__(self) -> EgressControlClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections permanently."""
        self._closed = True
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def status(self, *, timeout_s: float = LOOK_S) -> dict[str, Any]:
        """Return ``pid``, ``host``, ``revision`` (of the settings), ``ledger``, ``agents``, ``streams``, ``estop``,
        ..."""
        return await self._ask("GET", "/status", timeout_s=timeout_s)

    async def settings(self, settings: EgressSettings, secrets: Mapping[str, str] | None = None) -> None:
        """Send new settings, and the values of references (``env:NAME``), which the egress keeps in memory only."""
        wanted = {"settings": settings.model_dump(mode="json"), "secrets": dict(secrets or {})}
        await self._ask("PUT", "/settings", wanted)

    async def register(self, registration: AgentRegistration) -> Address:
        """Open a listener for an agent; durable when it returns. Another call for the same agent returns the same
        address."""
        path = f"/agents/{quote(registration.agent, safe='')}"
        return Address.model_validate(await self._ask("PUT", path, registration.model_dump(mode="json")))

    async def forget(self, agent: str) -> None:
        """Close an agent's listener."""
        await self._ask("DELETE", f"/agents/{quote(agent, safe='')}")

    async def deny(self, agent: str, *, action: str = "cutoff", cause: str, by: str, id: str) -> int:
        """Cut off, freeze or kill an agent; durable when it returns. Return how many streams it ended."""
        wanted = {"agent": agent, "action": action, "cause": cause, "by": by, "id": id}
        return int((await self._ask("POST", "/deny", wanted))["streams"])

    async def allow(self, agent: str, *, cause: str, by: str, id: str) -> None:
        """Allow an agent's traffic again."""
        await self._ask("POST", "/allow", {"agent": agent, "cause": cause, "by": by, "id": id})

    async def entries(
        self,
        *,
        after: int = 0,
        observations_after: int = 0,
        actions_after: int = 0,
        limit: int = 500,
        wait_s: float = 0.0,
    ) -> dict[str, Any]:
        """Return the ledger rows after these positions; wait up to `wait_s` seconds for the first.

        The result has ``ledger`` (its id; positions in another ledger are meaningless), ``entries``, ``observations``
        and ``actions``. Each object has its own ``seq``.
        """
        wait_s = min(wait_s, LONGEST_WAIT_S)
        query = {
            "after": after,
            "observations_after": observations_after,
            "actions_after": actions_after,
            "limit": limit,
            "wait": wait_s,
        }
        line = "&".join(f"{name}={value}" for name, value in query.items())
        return await self._ask("GET", f"/entries?{line}", timeout_s=ANSWER_S + wait_s)

    async def standing(self) -> dict[str, Any]:
        """Return the state of every limit, and which limits govern each agent."""
        return await self._ask("GET", "/standing", timeout_s=LOOK_S)

    async def estop(self, *, cause: str, by: str) -> int:
        """Set the emergency stop; durable when it returns. Return how many streams it ended."""
        return int((await self._ask("POST", "/estop", {"cause": cause, "by": by}))["streams"])

    async def clear_estop(self, *, cause: str, by: str) -> None:
        """Clear the emergency stop."""
        await self._ask("POST", "/estop/clear", {"cause": cause, "by": by})

    async def stop(self, *, timeout_s: float = ANSWER_S) -> None:
        """Stop the process; running requests have a few seconds to end."""
        await self._ask("POST", "/stop", timeout_s=timeout_s)

    async def _ask(
        self, method: str, path: str, wanted: Mapping[str, Any] | None = None, *, timeout_s: float = ANSWER_S
    ) -> dict[str, Any]:
        if self._closed:
            # A stale reference must not open connections that nothing would close.
            raise EgressUnreachable("The egress was let go of; another takes its place.")
        import aiohttp  # loaded at the first request: `muster up` has no egress to ask unless an agent needs one

        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(str(self._control)),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        try:
            async with self._session.request(
                method, f"http://egress{path}", json=wanted, timeout=aiohttp.ClientTimeout(total=timeout_s)
            ) as response:
                content = await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            silent = isinstance(error, TimeoutError)
            why = "no answer in time" if silent else type(error).__name__
            raise (EgressSilent if silent else EgressUnreachable)(
                f"The egress does not answer on {self._control} ({why}). `muster egress status` says whether it runs; "
                "if it ended, its log says why."
            ) from None
        try:
            answer = json.loads(content) if content else {}
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise EgressUnreachable(f"What answers on {self._control} is no egress.")
        if response.status >= 400:
            raise EgressRefused(str(answer.get("error") or f"HTTP {response.status}"), status=response.status)
        return answer
