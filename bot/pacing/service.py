"""The pace of spending: windows, their lines, and notifications about changes.

Each snapshot is computed from the register, so it is never older than the request. Use is cached between snapshots, and
only newer use is read (`database.queries.spending.usage_cache`). If nothing can be paced, nothing is read. Every
snapshot redraws the lines that are due. `PaceService.run` stores them, logs an event for each, and sleeps until the
next one is due or something changes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.approvals.services import ApprovalServices
from bot.commands.syntax import command_line
from bot.config.pacing import policy_of
from bot.messaging import rooms
from bot.pacing import window_status
from bot.pacing.egress_limits import enforced, paces
from bot.pacing.window_inputs import WindowInputs, budgeted
from bot.pacing.window_loader import WindowLoader
from bot.pacing.window_status import Drawn, PaceSnapshot
from bot.text import markdown
from budget import amounts
from budget.scope_names import shown_scope
from budget.windows.even_spread_line import Cause, PacePolicy, next_turn
from budget.windows.pace_admission import WindowState
from core.async_waits import set_within
from core.crash_points import declare
from core.errors import MusterError, RegisterError
from database.queries.spending import pacing_windows
from database.queries.spending.pacing_windows import AuthorizationRow, Befell
from egress.settings import LimitSettings, PaceSettings

log = structlog.get_logger(__name__)

KEPT = declare("pace.kept")

#: Maximum seconds between two checks, so that a changed clock is noticed.
_EVERY_S = 60.0
#: Minimum seconds between two redraws.
_LEAST_S = 0.5
#: Age in seconds from which events of windows are no longer logged.
_NEWS_S = 14 * 86_400.0


@dataclass(kw_only=True, slots=True)
class PaceService:
    """Windows and their lines."""

    services: ApprovalServices
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a window, a line or an authorization changes; the waiter clears it."""
    _gathering: WindowLoader = field(init=False)
    _callbacks: list[Callable[[], None]] = field(default_factory=list)
    _look: asyncio.Event = field(default_factory=asyncio.Event)
    _keeping: asyncio.Lock = field(default_factory=asyncio.Lock)
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Lock for reads: they share the cache of use, so they run one at a time and in order."""
    _latest: tuple[WindowInputs, Mapping[str, WindowState]] | None = None
    """The latest window inputs and states, for the egress."""
    _paced: tuple[PaceSettings, ...] = ()
    _withheld: set[str] = field(default_factory=set)
    """Ids of authorizations that are about to be revoked."""
    _logged: set[tuple[str, str, float]] = field(default_factory=set)
    """Events of windows that are already logged."""

    def __post_init__(self) -> None:
        self._gathering = WindowLoader(services=self.services)

    def on_change(self, callback: Callable[[], None]) -> None:
        """Register a callback that runs in the event loop whenever `changed` is set. It must return at once."""
        self._callbacks.append(callback)

    def tell(self) -> None:
        """Report a change of settings, authorizations or use."""
        self._gathering.unpaced = None
        self._look.set()
        self._say()

    def _say(self) -> None:
        self.changed.set()
        for callback in self._callbacks:
            callback()

    def used(self) -> None:
        """Report use: capacity has shrunk, or a reservation has been released."""
        if self._latest is None or self._latest[0].authorizations:
            # The egress needs the rest of each authorization at once. Without one, the next redraw is soon enough.
            self._look.set()
        self._say()

    def begun(self) -> None:
        """Report that a task began: the egress may need another pace (`budget.windows.overrun_allowance`)."""
        self._look.set()

    def renew(self) -> None:
        """Report new settings: results of the old ones are no longer sent to the egress."""
        self._gathering.unpaced = None
        self._latest = None
        self._look.set()

    def doubt(self) -> None:
        """Report that the ledger's sums were corrected: the cached use is read again."""
        self._gathering.tally.doubt()

    @property
    def policy(self) -> PacePolicy:
        """How strictly the pace is kept, according to muster.yaml."""
        settings = self.services.settings
        return policy_of(settings.pacing, settings.timezone)

    async def enforced(self, limits: Sequence[LimitSettings]) -> tuple[LimitSettings, ...]:
        """Return the limits that the egress is to enforce now, including shares of windows and authorizations.

        Args:
            limits: limits in tokens and money.

        Raises:
            RegisterError: the register cannot be read.
        """
        facts, found = await self._found()
        return enforced(limits, facts, found, self.policy)

    async def paces(self) -> tuple[PaceSettings, ...]:
        """Return the paces that the egress is to enforce now.

        Raises:
            RegisterError: the register cannot be read.
        """
        if self._gathering.unpaced is self.services.settings:
            return ()
        facts, found = await self._found()
        return paces(facts, found, self.policy)

    async def _found(self) -> tuple[WindowInputs, Mapping[str, WindowState]]:
        """Return the latest inputs and window states, reloaded if they are too old."""
        if self._latest is None or not 0 <= self.services.clock() - self._latest[0].now < _EVERY_S:
            async with self._read() as tx:
                facts, drawn = await self._drawn(tx, None)
            self._latest = facts, drawn.standings
        facts, found = self._latest
        if self._withheld:
            found = {
                key: replace(each, authorizations=[one for one in each.authorizations if one.id not in self._withheld])
                for key, each in found.items()
            }
        return facts, found

    async def withhold(self, ids: Iterable[str]) -> bool:
        """Have the egress enforce the limits without these authorizations, before the register ends them.

        A crash in between leaves limits too low, never too high.

        Returns:
            Whether the egress has the new limits. Otherwise it keeps the previous ones until they end.
        """
        self._withheld |= set(ids)
        return self.services.egress_client is None or bool(await self.services.egress_client.push())

    async def snapshot(self) -> PaceSnapshot:
        """Return the current state of every window.

        Raises:
            RegisterError: the register cannot be read.
        """
        if self._gathering.unpaced is self.services.settings:
            return PaceSnapshot(now=self.services.clock(), policy=self.policy)
        async with self._read() as tx:
            facts, drawn = await self._drawn(tx, None)
        if drawn.fresh or drawn.used_up:
            self._look.set()
        return PaceSnapshot(now=facts.now, policy=self.policy, standings=drawn.standings, policies=policies_of(facts))

    async def redraw(self, cause: Cause | None = None, *, scope: str | None = None) -> None:
        """Redraw the lines that are due, and store them.

        Args:
            cause: redraw all lines, and log this cause. None: only those that are due.
            scope: with a cause, only lines of windows of this scope.

        Raises:
            RegisterError: the register cannot be written.
        """
        self._gathering.unpaced = None
        told = await self._redrawn(cause, scope)
        # The lifts that authorizations grant depend on the current use.
        lifted = self._latest is not None and bool(self._latest[0].authorizations)
        if (self._other_paces() or lifted) and not told:
            await self.push()

    async def _redrawn(self, cause: Cause | None, scope: str | None) -> bool:
        """Redraw and store lines. Return whether the egress got the current settings."""
        async with self._keeping:
            now = self.services.clock()
            async with self._read() as tx:
                facts, drawn = await self._drawn(tx, cause, scope)
            self._latest = facts, drawn.standings
            self._withheld &= {row.id for row in facts.authorizations}
            befell = [*_of_lines(drawn, now), *self._of_quotas(facts)]
            over = [row for row in facts.authorizations if row.until <= now or row.id in drawn.used_up]
            if not (befell or over or drawn.fresh or drawn.gone or drawn.drawn):
                return False
            async with self.services.store.write(KEPT) as tx:
                for line in drawn.fresh:
                    await pacing_windows.keep_line(tx, line.window, asdict(line), drawn_at=line.drawn_at)
                await pacing_windows.drop_lines(tx, drawn.gone)
                for each in befell:
                    await pacing_windows.log(tx, each)
                for id, amount in drawn.drawn.items():
                    await pacing_windows.draw(tx, id, amount)
                for row in over:
                    await self._end(tx, row, "over" if row.until <= now else "used", now)
            self._logged |= {(each.window, each.kind, each.at) for each in befell}
        if over:
            self.services.delivery.wake()
        if not (drawn.fresh or over):
            return False
        self.tell()
        self._look.clear()
        await self.push()
        return True

    async def _end(self, tx: AsyncConnection, row: AuthorizationRow, how: Literal["used", "over"], now: float) -> None:
        """End an authorization that is used up or expired, and announce it in the same transaction.

        Do nothing if it has already ended.
        """
        if not await pacing_windows.end(tx, row.id, how, now):
            return
        amount = amounts.amount(row.amount, row.unit)
        words = {
            "used": f"⚖️ What was authorized for {markdown.code(shown_scope(row.scope))} ({amount}) is used up",
            "over": f"⚖️ The time of what was authorized for {markdown.code(shown_scope(row.scope))} ({amount}) is over",
        }
        text = f"{words[how]}: it spends at its pace, which {command_line('pace')} shows."
        await rooms.say(self.services, tx, f"authorization/{row.id}/{how}", text)

    def _other_paces(self) -> bool:
        """Return whether the paces for the egress changed since the last call.

        A provider's window can have a pace only once its rate per token is learned.
        """
        before, self._paced = self._paced, () if self._latest is None else paces(*self._latest, self.policy)
        return self._paced != before

    async def push(self) -> None:
        """Send the current settings to the egress: shares and authorizations change in amount as windows progress."""
        if self.services.egress_client is not None:
            with contextlib.suppress(MusterError):
                await self.services.egress_client.push()

    async def run(self) -> None:
        """Keep the lines current until canceled."""
        while True:
            self._look.clear()
            try:
                await self.redraw()
                pause = await self._pause()
            except RegisterError:
                await self.services.store.rest(_EVERY_S)
                continue
            except Exception:
                # Agents continue within their limits, and the pace is checked again.
                log.exception("pace.not_kept")
                pause = _EVERY_S
            await asyncio.sleep(_LEAST_S)
            await set_within(self._look, pause)

    async def _pause(self) -> float:
        """Return the seconds until something is due, as far as is known."""
        snapshot = await self.snapshot()
        now, policy = snapshot.now, snapshot.policy
        due = [now + _EVERY_S]
        for standing in snapshot.standings.values():
            turn = next_turn(standing.window, standing.line, standing.line.drawn_at, policy)
            due += [at for at in (turn, standing.line.resets_at) if at is not None]
            due += [each.until for each in standing.authorizations]
        return max(0.0, min(at for at in due if at > now) - now)

    @contextlib.asynccontextmanager
    async def _read(self) -> AsyncIterator[AsyncConnection]:
        """Yield a transaction that reads the register at one moment."""
        async with self._reading:
            self._gathering.tally.begin()
            async with self.services.store.read() as tx:
                yield tx

    async def _drawn(
        self, tx: AsyncConnection, cause: Cause | None, scope: str | None = None
    ) -> tuple[WindowInputs, Drawn]:
        facts = await self._gathering.facts(tx)
        written = await pacing_windows.lines(tx)
        lines = {key: line for key, text in written.items() if (line := window_status.line_from(text)) is not None}
        spread = self.services.settings.pacing.spread == "even"
        return facts, window_status.stand(facts, lines, self.policy, spread=spread, cause=cause, scope=scope)

    def _of_quotas(self, facts: WindowInputs) -> list[Befell]:
        """Return events from observations of windows that are not logged yet."""
        return [
            Befell(window=quota.key, at=event.at, kind=event.kind, detail={"text": event.text})
            for quota in facts.quotas
            for event in quota.reading.events
            if event.at >= facts.now - _NEWS_S and (quota.key, event.kind, event.at) not in self._logged
        ]


def policies_of(facts: WindowInputs) -> dict[str, str]:
    """Return the policy at the limit of each of Muster's own windows."""
    return {each.key: each.limit.policy for each in budgeted(facts.held, facts.spenders)}


def _of_lines(drawn: Drawn, now: float) -> list[Befell]:
    """Return the log events of the lines that were redrawn."""
    made = [
        Befell(
            window=line.window,
            at=now,
            kind="clock_skew",
            detail={"text": "The line was drawn at a time that is in the future now, so it is redrawn."},
        )
        for line in drawn.skewed
    ]
    for line in drawn.fresh:
        detail: dict[str, Any] = {
            "used": line.drawn_used if line.known else None,
            "limit": line.limit,
            "resets_at": line.resets_at,
        }
        made.append(Befell(window=line.window, at=line.drawn_at, kind=line.cause, detail=detail))
    return made
