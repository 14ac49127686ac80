"""Looks at the forge for what no event told: in the mode poll all of it, in the mode webhook what got lost.

What is found becomes events like those of webhooks. How far a repository was looked through is kept by the forge's
clock alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from bot.issue_runs.forge_link import ForgeLink
from bot.issue_runs.intake.troubles import Troubles
from bot.issue_runs.ports import IntakePort
from core.async_waits import set_within
from core.crash_points import declare
from core.errors import RegisterError
from database.engine.store import Store
from database.queries.forge import forge_events, issue_runs
from database.queries.forge.forge_events import ForgeEventRow
from database.queries.forge.issue_runs import ALIVE, IssueRun
from forge.model.errors import ForgeError
from forge.model.references import RepositoryName
from forge.model.values import CommitCheck, Issue

LOOK = declare("forge.look")

#: Seconds before the cursor from which a look begins: forges write entries a little late, and in whole seconds.
OVERLAP: Final = 120.0
#: Seconds after which nothing can happen any more in the second in which something was found.
SETTLED_S: Final = 3.0
#: Events go into the register in transactions of so many.
_AT_ONCE: Final = 500

_log = structlog.get_logger("forge.looking")


@dataclass(slots=True)
class Looking:
    """Looks at the configured repositories at times."""

    store: Store
    link: ForgeLink
    intake: IntakePort
    troubles: Troubles
    clock: Callable[[], float]
    monotonic: Callable[[], float] = time.monotonic
    _seen: dict[str, tuple[float, bool]] = field(default_factory=dict)
    """What the last looks found: since when, and whether nothing more can be hidden in its second."""
    _found: set[str] = field(default_factory=set)
    _now: asyncio.Event = field(default_factory=asyncio.Event)
    _is_first: bool = True

    def wake(self) -> None:
        """Look now."""
        self._now.set()

    async def run(self) -> None:
        """Look at once, and then at times, until cancelled."""
        while True:
            self._now.clear()
            try:
                await self.look()
            except RegisterError as error:
                _log.warning("forge.register", reason=str(error))
            await set_within(self._now, self.link.settings.every)

    async def look(self) -> None:
        """Look at all repositories and at the checks of open runs.

        Raises:
            RegisterError: the register is away.
        """
        is_first, self._is_first = self._is_first, False
        self._found.clear()
        is_all = True
        for name in self.link.repositories:
            doing = f"look at {name}"
            try:
                await self._look(name, is_first=is_first)
            except RegisterError:
                raise
            except Exception as error:
                if not isinstance(error, ForgeError):
                    _log.exception("forge.look_failed", repository=str(name))
                self._is_first |= is_first
                is_all = False
                await self.troubles.met(doing, error)
            else:
                self.troubles.ended(doing)
                self.link.looked_at[str(name)] = self.clock()
        if is_all:
            self._seen = {key: each for key, each in self._seen.items() if key in self._found}
        self.intake.wake()

    async def _look(self, name: RepositoryName, *, is_first: bool) -> None:
        host, client = self.link.host, self.link.client
        async with self.store.read() as tx:
            until = await forge_events.looked_until(tx, host, str(name))
        found: list[Issue] = []
        if until is None or is_first:
            # Somebody may have labelled an issue long before Muster was there.
            found += await client.labelled_issues(name)
        if until is not None:
            until_now = min(until, self.link.latest(self.clock()))
            since = datetime.fromtimestamp(until_now, UTC) - timedelta(seconds=OVERLAP)
            found += await client.changed_issues(name, since=since)
        await self._note(name, (_Found(each.number, None, _when(each)) for each in found))
        times = [each.updated_at.timestamp() for each in found] + ([] if until is None else [until])
        seen_until = max(0.0, min(max(times), self.link.latest(self.clock()))) if times else None
        if seen_until is not None and seen_until != until:
            async with self.store.write(LOOK) as tx:
                await forge_events.move(tx, host, str(name), seen_until)
        await self._look_at_checks(name)

    async def _look_at_checks(self, name: RepositoryName) -> None:
        """Checks change neither an issue nor a pull request, so they are asked for."""
        async with self.store.read() as tx:
            alive = await issue_runs.in_states(tx, ALIVE)
            open_ones = [each for each in alive if _waits_for_checks(each, self.link.host, name)]
            told = {each.id: {wake.cause for wake in await issue_runs.wakes(tx, each.id)} for each in open_ones}
        failed: ForgeError | None = None
        for run in open_ones:
            sha = run.pushed_sha
            if sha is None or f"checks/{sha}" in told[run.id]:
                continue
            try:
                checks = await self.link.client.checks(name, sha)
            except ForgeError as error:
                failed = failed or error  # a commit that is gone keeps no other from being looked at
                continue
            if checks:
                await self._note(name, [_Found(None, sha, _digest(checks))])
        if failed is not None:
            raise failed

    async def _note(self, name: RepositoryName, found: Iterable[_Found]) -> None:
        """Write what was found as events, unless it is settled.

        Forges tell times in whole seconds. What changes again within the second in which it was read looks the same
        later, so a change becomes an event at each look until one that began seconds after it was found.
        """
        now = self.monotonic()
        rows, seen = [], {}
        for each in found:
            key = f"{name}/{each.number or each.sha}/{each.state}"
            first_at, is_settled = self._seen.get(key, (now, False))
            self._found.add(key)
            seen[key] = (first_at, now - first_at >= SETTLED_S)
            if not is_settled:
                row = ForgeEventRow(
                    forge=self.link.host,
                    delivery=f"look/{key}/{secrets.token_hex(6)}",
                    name="look",
                    repository=str(name),
                    number=each.number,
                    sha=each.sha,
                    received_at=self.clock(),
                )
                rows.append(row)
        while rows:
            some, rows = rows[:_AT_ONCE], rows[_AT_ONCE:]
            async with self.store.write(LOOK) as tx:
                await forge_events.add(tx, some)
        self._seen |= seen


@dataclass(frozen=True, slots=True)
class _Found:
    number: int | None
    sha: str | None
    state: str


def _waits_for_checks(run: IssueRun, host: str, name: RepositoryName) -> bool:
    if run.forge != host or run.pushed_sha is None or run.pull_state in ("merged", "closed"):
        return False
    return run.repository.lower() == str(name).lower()


def _when(issue: Issue) -> str:
    return str(int(issue.updated_at.timestamp()))


def _digest(checks: Iterable[CommitCheck]) -> str:
    shown = repr(sorted((each.name, each.state.value, each.description) for each in checks))
    return hashlib.blake2s(shown.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
