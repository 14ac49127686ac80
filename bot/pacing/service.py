"""The pace of spending, as this process knows it: windows gathered, their lines kept, and who is told of changes.

A snapshot is made anew each time, from the register: it is never older than what it is asked for. What was used is kept
from one to the next, and only what came since is read (`database.queries.spending.usage_cache`); where nothing can be
paced, nothing is read at all. Lines that are due to be drawn anew are so in every snapshot; `PaceService.run` keeps
them, with a row in the log for each, and sleeps until the next is due or something happened.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import structlog

from bot.config.pacing import policy_of
from bot.pacing import authorization_expiry, window_status
from bot.pacing.egress_limits import enforced
from bot.pacing.lookahead import paces
from bot.pacing.snapshot import PaceSnapshot
from bot.pacing.window_inputs import budgeted
from bot.pacing.window_loader import Gathering
from budget.windows.even_spread_line import next_turn
from core.crash_points import declare
from core.errors import MusterError, RegisterError
from database.queries.spending import pacing_windows
from database.queries.spending.pacing_windows import Befell

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from bot.pacing.services import PacingServices
    from bot.pacing.window_inputs import WindowInputs
    from bot.pacing.window_status import Drawn
    from budget.windows.even_spread_line import Cause, PacePolicy
    from budget.windows.pace_admission import WindowState
    from egress.settings import LimitSettings, PaceSettings

log = structlog.get_logger(__name__)

KEPT = declare("pace.kept")

#: It is looked again at least so often, seconds: a clock that was set is noticed then.
_EVERY_S = 60.0
#: Lines are not drawn more often than this, seconds, whatever happens.
_LEAST_S = 0.5
#: Of events of windows, what is older than this, seconds, is no news any more.
_NEWS_S = 14 * 86_400.0


@dataclass(kw_only=True, slots=True)
class PaceService:
    """Windows and their lines."""

    services: PacingServices
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a window, a line or an authorization is not what it was; whoever waits for that clears it."""
    _gathering: Gathering = field(init=False)
    _callbacks: list[Callable[[], None]] = field(default_factory=list)
    _look: asyncio.Event = field(default_factory=asyncio.Event)
    _keeping: asyncio.Lock = field(default_factory=asyncio.Lock)
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)
    """What is kept from one look to the next is of one look at a time, and never of an earlier one than before."""
    _latest: tuple[WindowInputs, Mapping[str, WindowState]] | None = None
    """What was found last, for the egress."""
    _paced: tuple[PaceSettings, ...] = ()
    _withheld: set[str] = field(default_factory=set)
    """Authorizations that are about to be taken back."""
    _logged: set[tuple[str, str, float]] = field(default_factory=set)
    """Events of windows that are written down."""

    def __post_init__(self) -> None:
        self._gathering = Gathering(services=self.services)

    def on_change(self, callback: Callable[[], None]) -> None:
        """Have this called, in the event loop, whenever `changed` is set. It must return at once."""
        self._callbacks.append(callback)

    def tell(self) -> None:
        """Something is not what it was: settings, an authorization, what was used."""
        self._gathering.unpaced = None
        self._look.set()
        self._say()

    def _say(self) -> None:
        self.changed.set()
        for callback in self._callbacks:
            callback()

    def used(self) -> None:
        """Something was used: there is less room than there was, or what was reserved for it is free."""
        if self._latest is None or self._latest[0].authorizations:
            # What is left of an authorization is told to the egress; without one, the next line is soon enough.
            self._look.set()
        self._say()

    def begun(self) -> None:
        """A task began: the egress may have to hold another pace (`budget.windows.overrun_allowance`)."""
        self._look.set()

    def renew(self) -> None:
        """The settings are others: what was found by the old ones is not told to the egress any more."""
        self._gathering.unpaced = None
        self._latest = None
        self._look.set()

    def doubt(self) -> None:
        """The ledger's sums were put right: what is kept of them is reread."""
        self._gathering.tally.doubt()

    @property
    def policy(self) -> PacePolicy:
        """How strictly the pace is kept, as muster.yaml says."""
        settings = self.services.settings
        return policy_of(settings.pacing, settings.timezone)

    async def enforced(self, limits: Sequence[LimitSettings]) -> tuple[LimitSettings, ...]:
        """Return the limits as the egress is to hold them now: with shares of windows, and with what is authorized.

        Args:
            limits: in tokens and money.

        Raises:
            RegisterError: the register cannot be read.
        """
        facts, found = await self._found()
        return enforced(limits, facts, found, self.policy)

    async def paces(self) -> tuple[PaceSettings, ...]:
        """Return the paces that the egress is to hold now.

        Raises:
            RegisterError: the register cannot be read.
        """
        if self._gathering.unpaced is self.services.settings:
            return ()
        facts, found = await self._found()
        return paces(facts, found, self.policy)

    async def _found(self) -> tuple[WindowInputs, Mapping[str, WindowState]]:
        """Return what was found last, if that was lately."""
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
        """Have the egress hold the limits without these authorizations, before they are ended in the register.

        Whoever is killed in between leaves limits that are too low, and never too high.

        Returns:
            Whether it knows; it goes on with what it was told before otherwise, until that ends.
        """
        self._withheld |= set(ids)
        return self.services.outlet is None or bool(await self.services.outlet.push())

    async def snapshot(self) -> PaceSnapshot:
        """Return every window as it stands now.

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
        """Draw the lines again that are to be, and keep them.

        Args:
            cause: draw all of them, for this; None: those that are due.
            scope: with a cause, only those of windows of this scope.

        Raises:
            RegisterError: the register cannot be written.
        """
        self._gathering.unpaced = None
        told = await self._redrawn(cause, scope)
        # What an authorization lifts follows from what is used.
        lifted = self._latest is not None and bool(self._latest[0].authorizations)
        if (self._other_paces() or lifted) and not told:
            await self.push()

    async def _redrawn(self, cause: Cause | None, scope: str | None) -> bool:
        """Return whether the egress was told what holds now."""
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
                    await authorization_expiry.end(self.services, tx, row, "over" if row.until <= now else "used", now)
            self._logged |= {(each.window, each.kind, each.at) for each in befell}
        if over:
            self.services.delivery.wake()
        if not (drawn.fresh or over):
            return False
        self.tell()
        self._look.clear()
        await self.push()
        return True

    def _other_paces(self) -> bool:
        """Return whether the egress is to hold other paces than when this was asked last: one of a provider's window
        can be told only once it was learned what a token is of it."""
        before, self._paced = self._paced, () if self._latest is None else paces(*self._latest, self.policy)
        return self._paced != before

    async def push(self) -> None:
        """Tell the egress what holds now: shares and authorizations come to other amounts as windows go on."""
        if self.services.outlet is not None:
            with contextlib.suppress(MusterError):
                await self.services.outlet.push()

    async def run(self) -> None:
        """Keep the lines, until cancelled."""
        while True:
            self._look.clear()
            try:
                await self.redraw()
                pause = await self._pause()
            except RegisterError:
                await self.services.store.rest(_EVERY_S)
                continue
            except Exception:
                # What spends goes on within its limits; the pace is looked at again.
                log.exception("pace.not_kept")
                pause = _EVERY_S
            await asyncio.sleep(_LEAST_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._look.wait()

    async def _pause(self) -> float:
        """For how long nothing is due, as far as is known, in seconds."""
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
        """The register as it is at one moment."""
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
        """Return what observations say befell windows, and was not written down."""
        return [
            Befell(window=quota.key, at=event.at, kind=event.kind, detail={"text": event.text})
            for quota in facts.quotas
            for event in quota.reading.events
            if event.at >= facts.now - _NEWS_S and (quota.key, event.kind, event.at) not in self._logged
        ]


def policies_of(facts: WindowInputs) -> dict[str, str]:
    """Return what happens at the limit of each window that is Muster's own."""
    return {each.key: each.limit.policy for each in budgeted(facts.held, facts.spenders)}


def _of_lines(drawn: Drawn, now: float) -> list[Befell]:
    """Return what is written down of lines that were drawn."""
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
