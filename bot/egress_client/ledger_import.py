"""The copy of the egress's ledger into the register: in order, once, and with every gap reported.

Rows and the place reached are written in one transaction. So a copier resumes where it was after a crash, or after the
register was away. Meanwhile, the egress keeps its ledger.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol, TypeVar

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.egress_client.task_attribution import believed
from budget.scope_names import scope_of
from budget.tokens import Tokens, Weights
from core.crash_points import declare
from core.errors import MusterError, RegisterError
from database.engine.store import Store
from database.queries.operations import audit_log
from database.queries.spending import quota_history
from database.queries.spending import usage_ledger as ledger
from database.queries.spending.usage_ledger import Copied
from database.queries.spending.usage_queries import Sums
from egress.ledger.model import EXCESS, PACE, Action, LedgerEntry, Observation, error_type

T = TypeVar("T")

log = structlog.get_logger(__name__)

COPIED = declare("outlet.copied")

#: Rows of each kind in one transaction.
PAGE = 500
#: Seconds after which the egress answers if there is nothing new.
WAIT_S = 20.0
#: Seconds to pause while the egress or the register does not answer.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 10.0

#: The actions that denied an agent something; all others were carried out.
_REFUSALS = frozenset({"refused", "route-refused"})


def _nowhere() -> Copied:
    return Copied(ledger="")


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """A page of a ledger after a given place."""

    ledger: str
    """The ledger's id; places are only valid within one ledger."""
    entries: Sequence[LedgerEntry] = ()
    observations: Sequence[tuple[int, Observation]] = ()
    """Observations with their places. There are gaps, because only the latest of each window is kept."""
    actions: Sequence[Action] = ()


def page_of(answer: Mapping[str, Any]) -> Page:
    """Parse an answer of ``GET /entries``. Unknown fields of a newer egress are ignored."""
    return Page(
        ledger=str(answer["ledger"]),
        entries=[_made(LedgerEntry, {**each, "tokens": _made(Tokens, each["tokens"])}) for each in answer["entries"]],
        observations=[(int(each["seq"]), _made(Observation, each)) for each in answer["observations"]],
        actions=[_made(Action, each) for each in answer["actions"]],
    )


def weighed(sums: Sums, weights: Mapping[str, float] | None = None) -> float:
    """Return the weighted tokens of sums, with factors as in muster.yaml."""
    return float(Weights.of(weights or {}).weigh(Tokens(**sums.kinds)))


def _made(kind: type[T], given: Mapping[str, Any]) -> T:
    known = {each.name for each in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in given.items() if name in known})


class Pages(Protocol):
    """A function that returns the page after a place, once there is something new or the time is up."""

    async def __call__(self, after: Copied, *, limit: int, wait_s: float) -> Page:
        """Return a page.

        Raises:
            MusterError: the egress does not answer.
        """


async def _nothing(tx: AsyncConnection, entries: Sequence[LedgerEntry]) -> None:
    del tx, entries


@dataclass(slots=True)
class LedgerImport:
    """A copier of one egress's ledger."""

    store: Store
    pages: Pages
    clock: Callable[[], float]
    redact: Callable[[str], str]
    told: Callable[[AsyncConnection, str, Action], Awaitable[None]]
    """Called with each action and its unique key in its transaction: updates the agent and informs operators."""
    noted: Callable[[AsyncConnection, Sequence[LedgerEntry]], Awaitable[None]] = _nothing
    """Called with the requests of a page, in the transaction that writes them, after its quota observations."""
    after: Callable[[Sequence[Action]], None] = lambda _: None
    """Called with actions after they are committed."""
    weigh: Callable[[Sums], float] = weighed
    """Returns the weighted tokens of sums."""
    reached: float | None = None
    """When the egress last answered, in seconds since the epoch."""
    trouble: str | None = None
    """Why nothing can be copied now; None if there is no known problem."""
    _at: Copied = field(default_factory=_nowhere)
    _crowded: set[str] = field(default_factory=set)
    """Accounts with more windows than are kept."""

    async def run(self) -> None:
        """Copy until cancelled."""
        pause = _FIRST_PAUSE
        while True:
            try:
                await self.copy(wait_s=WAIT_S)
            except RegisterError as error:
                self._failed("the register cannot be written", error)
                await self.store.rest(pause)
            except Exception as error:
                if not isinstance(error, MusterError | OSError):
                    log.exception("ledger.not_readable")
                self._failed("the egress does not answer", error)
                await asyncio.sleep(pause)
            else:
                self.trouble, pause = None, _FIRST_PAUSE
                continue
            # Only the register knows what was committed: the error may have occurred before or after the commit.
            self._at = _nowhere()
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _failed(self, what: str, error: Exception) -> None:
        if self.trouble is None:
            log.warning("ledger.not_copied", reason=what, detail=str(error))
        self.trouble = f"{what}: {error}"

    async def copy(self, *, wait_s: float = 0.0) -> bool:
        """Copy new rows, at most one page, and return whether there were any.

        Raises:
            MusterError: the egress does not answer.
            RegisterError: nothing could be written.
        """
        page = await self.pages(self._at, limit=PAGE, wait_s=wait_s if self._at.ledger else 0.0)
        self.reached = self.clock()
        if page.ledger != self._at.ledger:
            # On the first call, and for another ledger, the requested place was not valid.
            async with self.store.read() as tx:
                self._at = await ledger.copied(tx, page.ledger)
            page = await self.pages(self._at, limit=PAGE, wait_s=0.0)
            if page.ledger != self._at.ledger:
                return False
        if not (page.entries or page.observations or page.actions):
            return False
        # Quotas are compared with the usage before them. A full page lacks some of it, so its observations are read
        # again.
        up_to_date = len(page.entries) < PAGE
        at = replace(
            self._at,
            entries=page.entries[-1].seq if page.entries else self._at.entries,
            observations=page.observations[-1][0] if page.observations and up_to_date else self._at.observations,
            actions=page.actions[-1].seq if page.actions else self._at.actions,
        )
        async with self.store.write(COPIED) as tx:
            await self._missing(tx, "requests", self._at.entries, [each.seq for each in page.entries])
            await self._missing(tx, "actions", self._at.actions, [each.seq for each in page.actions])
            entries = await believed(tx, page.entries)
            await ledger.add(tx, [_row(page.ledger, each) for each in entries])
            for _, seen in page.observations:
                if not await ledger.observe(tx, _seen(seen), now=self.clock()):
                    self._crowd(seen.account)
                elif up_to_date:
                    await quota_history.record(tx, _seen(seen), self.weigh, now=self.clock())
            await self.noted(tx, entries)
            for action in page.actions:
                await self._act(tx, f"egress/{page.ledger}/{action.seq}", action)
            await ledger.move(tx, at, self.clock())
        self._at = at
        self.after(page.actions)
        return True

    def _crowd(self, account: str) -> None:
        """Log, once per account, that a provider reports more windows than are kept."""
        if account not in self._crowded:
            log.warning("quota.too_many_windows", account=account, kept=quota_history.WINDOWS)
        self._crowded.add(account)

    async def _act(self, tx: AsyncConnection, key: str, action: Action) -> None:
        new = await audit_log.add(
            tx,
            key=key,
            at=action.at,
            identity=action.by,
            door="egress",
            action=action.action,
            arguments={"agent": action.agent, **_of_limit(action)},
            outcome="refused" if action.action in _REFUSALS else "done",
            detail=self.redact(f"{action.result}: {action.cause}" if action.cause else action.result),
        )
        if new:
            await self.told(tx, key, action)

    async def _missing(self, tx: AsyncConnection, what: str, last: int, seqs: Sequence[int]) -> None:
        """Record the rows that are missing between the last row and these."""
        for seq in seqs:
            if seq != last + 1:
                log.error("ledger.gap", ledger=self._at.ledger, kind=what, first=last + 1, last=seq - 1)
                await audit_log.add(
                    tx,
                    key=f"egress/{self._at.ledger}/gap/{what}/{last + 1}",
                    at=self.clock(),
                    identity="egress",
                    door="egress",
                    action="ledger-gap",
                    arguments={"kind": what, "first": last + 1, "last": seq - 1},
                    outcome="failed",
                    detail=f"{seq - last - 1} {what} were no longer in the ledger when it was copied",
                )
            last = seq


def _of_limit(action: Action) -> dict[str, Any]:
    """Return the limit that an action is about, as people write it; empty if it is about none."""
    scope = action.detail.get("scope")
    if action.action != EXCESS:
        if not isinstance(scope, str):
            return {}
        why = {"why": PACE} if action.detail.get("why") == PACE else {}
        return {"scope": scope_of(str(action.detail.get("kind")), scope), **why}
    told = {name: action.detail.get(name) for name in ("kind", "scope", "unit", "window")}
    return {**told, "scope": scope_of(str(told["kind"]), str(told["scope"]))}


def _row(ledger_id: str, entry: LedgerEntry) -> dict[str, Any]:
    tokens = entry.tokens
    return {
        "id": entry.id,
        "ledger": ledger_id,
        "seq": entry.seq,
        "agent": entry.agent,
        "launch_id": entry.launch_id,
        "role": entry.role,
        "profile": entry.profile,
        "session": entry.session,
        "turn": entry.turn,
        "task": entry.task,
        "account": entry.account,
        "provider": entry.provider,
        "api": entry.api,
        "model_asked": entry.model_asked,
        "model": entry.model,
        "attempt": entry.attempt,
        "input_tokens": tokens.input,
        "output_tokens": tokens.output,
        "cache_read_tokens": tokens.cache_read,
        "cache_write_tokens": tokens.cache_write,
        "reasoning_tokens": tokens.reasoning,
        "reported": entry.reported,
        "raw": None if entry.raw is None else dict(entry.raw),
        "status": entry.status,
        "ended": entry.ended,
        # An egress that has run since before an update may still repeat a provider's text.
        "detail": error_type(entry.detail),
        "started_at": entry.started_at,
        "ended_at": entry.ended_at,
        "first_byte_s": entry.first_byte_s,
        "total_s": entry.total_s,
        "usd": entry.usd,
        "tenant_id": entry.tenant_id,
        "host": entry.host,
    }


def _seen(seen: Observation) -> dict[str, Any]:
    return {
        "account": seen.account,
        "window": seen.window,
        "provider": seen.provider,
        "seen_at": seen.seen_at,
        "used": seen.used,
        "amount": seen.limit,
        "remaining": seen.remaining,
        "reset_at": seen.reset_at,
        "window_s": seen.window_s,
        "status": seen.status,
    }
