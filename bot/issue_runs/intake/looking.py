"""Looks at the forge for what no event told: in the mode poll all of it, in the mode webhook what got lost.

What is found becomes events like those of webhooks. How far a repository was looked through is kept by the forge's
clock alone.
"""

from __future__ import annotations

import asyncio
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
from forge.model.errors import ForgeAway, ForgeError, ForgeMissing
from forge.model.references import IssueReference, RepositoryName
from forge.model.values import Issue
from forge.pull_sight import PullSight
from forge.waking import pull_state

LOOK = declare("forge.look")

#: Seconds before the cursor from which a look begins: forges write entries a little late, and in whole seconds.
OVERLAP: Final = 120.0
#: Seconds after which nothing can happen any more in the second in which something was found.
SETTLED_S: Final = 3.0
#: The longest time between two looks at a pull request that does not change; seconds.
LONGEST_REST_S: Final = 600.0
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
    _pulls: dict[str, _KnownPull] = field(default_factory=dict)
    """Open pull requests, by run."""
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
        """Look at all repositories and at the open pull requests of runs.

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
        # What changed first is taken up first; forges list it last.
        found.sort(key=lambda each: (each.updated_at, each.number))
        await self._note(name, (_Found(each.number, _when(each)) for each in found))
        times = [each.updated_at.timestamp() for each in found] + ([] if until is None else [until])
        seen_until = max(0.0, min(max(times), self.link.latest(self.clock()))) if times else None
        if seen_until is not None and seen_until != until:
            async with self.store.write(LOOK) as tx:
                await forge_events.move(tx, host, str(name), seen_until)
        await self._look_at_pulls(name)

    async def _look_at_pulls(self, name: RepositoryName) -> None:
        """Checks change no pull request, and neither does a commit on its base, so open ones are read themselves."""
        async with self.store.read() as tx:
            alive = await issue_runs.in_states(tx, ALIVE)
        client, now = self.link.client, self.monotonic()
        ids = {run.id for run in alive}
        self._pulls = {run: known for run, known in self._pulls.items() if run in ids}
        found: list[_Found] = []
        failed: ForgeError | None = None
        for run in alive:
            if not _is_open(run, self.link.host, name):
                continue
            assert run.pull_request is not None
            assert run.pushed_sha is not None
            known = self._pulls.get(run.id)
            if known is not None and known.pushed_sha == run.pushed_sha and now < known.next_at:
                self._found.add(_key(name, known.found))
                continue
            try:
                pull = await client.read_pull_request(IssueReference(name, run.pull_request))
                sight = PullSight.of(pull, await client.checks(name, run.pushed_sha), 0.0)
            except ForgeError as error:
                if isinstance(error, ForgeAway):
                    failed = error
                    break
                # One that was deleted or cannot be read hides no other.
                failed = failed if failed or isinstance(error, ForgeMissing) else error
                continue
            seen = _Found(run.pull_request, f"{pull_state(pull)}/{sight.digest}")
            since = now if known is None or known.found != seen else known.since
            # What has not changed for an hour will hardly do so within the next minute.
            rest = 0.0 if sight.pending else min(LONGEST_REST_S, now - since)
            self._pulls[run.id] = _KnownPull(seen, run.pushed_sha, since, now + rest)
            found.append(seen)
        await self._note(name, found)
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
            key = _key(name, each)
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
                    sha=None,
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
    number: int
    state: str


@dataclass(frozen=True, slots=True)
class _KnownPull:
    """What the last look found of a pull request. Times are monotonic."""

    found: _Found
    pushed_sha: str
    since: float
    next_at: float


def _key(name: RepositoryName, found: _Found) -> str:
    return f"{name}/{found.number}/{found.state}"


def _is_open(run: IssueRun, host: str, name: RepositoryName) -> bool:
    """Return whether a run has an open pull request in a repository, with a commit that Muster pushed."""
    if run.forge != host or run.repository.lower() != str(name).lower():
        return False
    return run.pushed_sha is not None and run.pull_request is not None and run.pull_state not in ("merged", "closed")


def _when(issue: Issue) -> str:
    return str(int(issue.updated_at.timestamp()))
